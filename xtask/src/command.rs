//! A program with its arguments -> its success, its output, or an error that names it.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A cargo call in the workspace's root, by the cargo that runs us.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(crate::paths::root());
    command
}

/// Shows the command and runs it with our own terminal; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    run_silently(command)
}

/// As [`run`], without showing the command first.
pub(crate) fn run_silently(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Standard output of the command, trimmed; what it wrote to standard error becomes the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting `{}`", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Whether the command starts and exits with 0. Says nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The command as one would type it; long argument lists are cut, for they hide the name.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(word).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{} ...", &line[..end]),
        None => line,
    }
}

fn word(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) { text.into_owned() } else { format!("'{text}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(args: &[&str], expected: &str) {
        assert_eq!(shown(Command::new("ip").args(args)), expected);
    }

    #[test]
    fn plain_words_are_shown_as_they_are() {
        check(&["link", "add", "dev=v0"], "ip link add dev=v0");
    }

    #[test]
    fn words_that_a_shell_would_split_are_quoted() {
        check(&["two words", ""], "ip 'two words' ''");
    }

    #[test]
    fn an_error_names_the_program_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no route >&2; exit 3"]))
            .expect_err("the command exits with 3");
        let message = format!("{error:#}");
        assert!(message.contains("sh -c") && message.contains("no route"), "{message}");
    }
}
