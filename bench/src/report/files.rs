//! A report -> files: JSON, Markdown, and one SVG for each plot.

use std::{fs, path::Path};

use anyhow::Context as _;

use super::Report;

impl Report {
    /// Writes the report as JSON.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_json(&self, path: &Path) -> anyhow::Result<()> {
        write(path, &serde_json::to_vec_pretty(self)?)
    }

    /// Writes `report.json`, `report.md` and the plots into `folder`, which is made if need be.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write_folder(&self, folder: &Path, comparison: Option<&str>) -> anyhow::Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        self.write_json(&folder.join("report.json"))?;
        let mut markdown = self.markdown();
        for plot in self.chapters.iter().flat_map(|chapter| &chapter.findings.plots) {
            let file = format!("{}.svg", plot.file);
            write(&folder.join(&file), plot.svg().as_bytes())?;
            markdown.push_str(&format!("\n![{}]({file})\n", plot.title));
        }
        if let Some(comparison) = comparison {
            markdown.push('\n');
            markdown.push_str(comparison);
        }
        write(&folder.join("report.md"), markdown.as_bytes())
    }
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}
