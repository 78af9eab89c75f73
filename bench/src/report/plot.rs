//! Points -> an SVG picture: axes, curves, legend.

use std::fmt::Write as _;

use serde::Serialize;

use super::table::number;

/// How values spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// From 0.
    Linear,
    /// By powers of ten; values of 0 and less are left out.
    Logarithmic,
}

/// Points that belong together.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A picture.
#[derive(Clone, Debug, Serialize)]
pub struct Plot {
    /// Name of the file, without its end.
    pub file: String,
    pub title: String,
    pub x: (String, Scale),
    pub y: (String, Scale),
    pub curves: Vec<Curve>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Apart for those who see colours differently, too (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
const TICKS: u32 = 5;

/// One axis: the values at its ends.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Plot {
    /// The picture as SVG.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = Axis::over(self.x.1, points().map(|point| point.0));
        let y = Axis::over(self.y.1, points().map(|point| point.1));
        let across = |value: f64| LEFT + x.share(value) * (WIDTH - LEFT - RIGHT);
        let up = |value: f64| HEIGHT - BOTTOM - y.share(value) * (HEIGHT - TOP - BOTTOM);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        label(&mut svg, WIDTH / 2.0, 20.0, "middle", &self.title);
        label(&mut svg, WIDTH / 2.0, HEIGHT - 10.0, "middle", &self.x.0);
        label(&mut svg, LEFT, TOP - 8.0, "middle", &self.y.0);
        for tick in x.ticks() {
            let at = across(tick);
            rule(&mut svg, (at, TOP), (at, HEIGHT - BOTTOM));
            label(&mut svg, at, HEIGHT - BOTTOM + 18.0, "middle", &short(tick));
        }
        for tick in y.ticks() {
            let at = up(tick);
            rule(&mut svg, (LEFT, at), (WIDTH - RIGHT, at));
            label(&mut svg, LEFT - 8.0, at + 4.0, "end", &short(tick));
        }
        for (place, (curve, colour)) in self.curves.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let drawn: Vec<(f64, f64)> = curve
                .points
                .iter()
                .filter(|point| x.has(point.0) && y.has(point.1))
                .map(|point| (across(point.0), up(point.1)))
                .collect();
            let path: Vec<String> = drawn.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                path.join(" ")
            );
            for (x, y) in drawn {
                let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
            #[expect(clippy::cast_precision_loss, reason = "a handful of curves")]
            let row = TOP + 14.0 + 16.0 * place as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>",
                LEFT + 10.0,
                row - 9.0
            );
            label(&mut svg, LEFT + 26.0, row, "start", &curve.name);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl Axis {
    fn over(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> =
            values.filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0)).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if values.is_empty() {
            return Self { scale, low: if scale == Scale::Linear { 0.0 } else { 1.0 }, high: 10.0 };
        }
        match scale {
            Scale::Linear => {
                let step = nice_step(high.max(0.0) - low.min(0.0));
                Self {
                    scale,
                    low: (low.min(0.0) / step).floor() * step,
                    high: (high.max(0.0) / step).ceil() * step,
                }
            }
            Scale::Logarithmic => {
                let (low, high) = (low.log10().floor(), high.log10().ceil());
                Self { scale, low: 10_f64.powf(low), high: 10_f64.powf(high.max(low + 1.0)) }
            }
        }
    }

    fn has(&self, value: f64) -> bool {
        value.is_finite() && value >= self.low && value <= self.high
    }

    /// Where the value lies, 0 at the begin of the axis, 1 at its end.
    fn share(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).log10() / (self.high / self.low).log10(),
        }
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = vec![self.low];
        let step = nice_step(self.high - self.low);
        // Bounded whatever the values are: an axis has few ticks.
        while let Some(last) = ticks.last().copied()
            && ticks.len() < 20
        {
            let next = if self.scale == Scale::Linear { last + step } else { last * 10.0 };
            if next > self.high * 1.000_001 {
                break;
            }
            ticks.push(next);
        }
        ticks
    }
}

/// 1, 2 or 5 times a power of ten, so that about five steps make `range`.
fn nice_step(range: f64) -> f64 {
    if range <= 0.0 {
        return 1.0;
    }
    let raw = range / f64::from(TICKS);
    let power = 10_f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= raw).unwrap_or(raw)
}

fn rule(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

/// A tick's value, with k and M for thousands and millions.
fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = number(value);
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_values() {
        let axis = Axis::over(Scale::Linear, [3.0, 47.0].into_iter());
        assert_eq!((axis.low, axis.high), (0.0, 50.0));
        assert_eq!(axis.ticks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        let axis = Axis::over(Scale::Logarithmic, [20.0, 30_000.0, 0.0].into_iter());
        assert_eq!((axis.low, axis.high), (10.0, 100_000.0));
        assert_eq!(axis.ticks().len(), 5);
        assert!((axis.share(1000.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_picture_holds_its_points_and_escapes_its_texts() {
        let plot = Plot {
            file: "loss".to_owned(),
            title: "a < b & c".to_owned(),
            x: ("rate".to_owned(), Scale::Logarithmic),
            y: ("loss".to_owned(), Scale::Linear),
            curves: vec![Curve {
                name: "ours".to_owned(),
                points: vec![(10.0, 0.0), (1000.0, 5.0), (0.0, 1.0)],
            }],
        };
        let svg = plot.svg();
        assert!(svg.contains("a &lt; b &amp; c"));
        // A rate of 0 has no place on a logarithmic axis.
        assert_eq!(svg.matches("<circle").count(), 2);
    }

    #[test]
    fn nothing_to_draw_and_odd_values_do_not_panic() {
        for points in [vec![], vec![(f64::NAN, f64::INFINITY)], vec![(0.0, 0.0)], vec![(-5.0, -1.0)]] {
            for scale in [Scale::Linear, Scale::Logarithmic] {
                let plot = Plot {
                    file: String::new(),
                    title: String::new(),
                    x: (String::new(), scale),
                    y: (String::new(), scale),
                    curves: vec![Curve { name: String::new(), points: points.clone() }],
                };
                assert!(plot.svg().ends_with("</svg>\n"));
            }
        }
    }
}
