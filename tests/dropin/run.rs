//! Cases -> what failed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::case::{Answer, Case, Expectation, Request, Step, Stream, payload};
use super::daemon::Daemon;
use super::expectation::{is_like, problem};

/// Daemons that run side by side. They mostly wait.
const WORKERS: usize = 8;
/// How long anything may take. Far more than it ever does on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same for what is expected to fail.
const PATIENCE_PENDING: Duration = Duration::from_secs(2);

/// Runs the cases, each against a daemon with `flags` on top of its own; panics if one failed.
pub(super) fn all(cases: &[Case], flags: &[&str]) {
    let filter = std::env::var("ROTAMETER_CASES").unwrap_or_default();
    let cases: Vec<&Case> = cases.iter().filter(|case| case.name.contains(&filter)).collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = run(case, flags);
                    results.lock().expect("no worker panics here").push((*case, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("all workers have ended");
    results.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    let mut failed = 0;
    for (case, result) in &results {
        match (&case.pending, result) {
            (None, Ok(())) => {}
            (None, Err(why)) => {
                failed += 1;
                println!("FAILED   {}\n    {why}", case.name);
            }
            (Some(reason), Err(_)) => println!("pending  {}: {reason}", case.name),
            (Some(_), Ok(())) => println!("HOLDS    {}: not pending any more", case.name),
        }
    }
    assert_eq!(results.len(), cases.len(), "a worker panicked");
    let pending = cases.iter().filter(|case| case.pending.is_some()).count();
    println!("{} cases, {failed} failed, {pending} pending", cases.len());
    assert_eq!(failed, 0, "cases failed; each is named above");
}

fn run(case: &Case, flags: &[&str]) -> Result<(), String> {
    let patience = if case.pending.is_some() { PATIENCE_PENDING } else { PATIENCE };
    let mut daemon = Daemon::start(case, flags).map_err(|error| format!("starting the daemon: {error}"))?;
    let result = steps(case, &mut daemon, patience);
    let log = daemon.output(Stream::Stderr);
    let with_log = |why: String| {
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n      ");
        format!("{why}\n      {last}")
    };
    result.map_err(with_log)?;
    if log.contains("panicked") {
        return Err(with_log("the daemon panicked".to_owned()));
    }
    Ok(())
}

fn steps(case: &Case, daemon: &mut Daemon, patience: Duration) -> Result<(), String> {
    let mut running = !matches!(case.steps.first(), Some(Step::Exits(_)));
    if running {
        daemon.wait_until_ready(patience)?;
    }
    for step in &case.steps {
        running &= !matches!(step, Step::Exits(_));
        take(step, daemon, patience)?;
    }
    if running {
        daemon.signal("TERM");
        expect_exit(daemon, 0, patience)?;
    }
    Ok(())
}

fn take(step: &Step, daemon: &mut Daemon, patience: Duration) -> Result<(), String> {
    match step {
        Step::Send { transport, times, payload: text } => {
            let bytes = payload(text);
            for _ in 0..*times {
                daemon.send(*transport, &bytes).map_err(|error| format!("sending {text:.60}: {error}"))?;
            }
            Ok(())
        }
        Step::Scrape(expectations) => scrape(daemon, expectations, patience),
        Step::Request(request) => ask(daemon, request),
        Step::Relayed(text) => {
            let bytes = daemon.relayed(patience).map_err(|error| format!("relayed {text:.60}: {error}"))?;
            if bytes == payload(text) {
                return Ok(());
            }
            Err(format!("relayed was {}", bytes.escape_ascii()))
        }
        Step::Remap(text) => daemon.remap(text).map_err(|error| format!("writing the mapping file: {error}")),
        Step::Signal(name) => {
            daemon.signal(name);
            Ok(())
        }
        Step::Exits(code) => expect_exit(daemon, *code, patience),
        Step::Output { stream, holds } => {
            let output = daemon.output(*stream);
            if output.contains(holds) {
                return Ok(());
            }
            Err(format!("{stream:?} lacks {holds:?}:\n{output:.2000}"))
        }
        Step::Silent => match daemon.output(Stream::Stderr).as_str() {
            "" => Ok(()),
            output => Err(format!("standard error is not empty:\n{output:.2000}")),
        },
        Step::Sleep(milliseconds) => {
            std::thread::sleep(Duration::from_millis(*milliseconds));
            Ok(())
        }
    }
}

fn expect_exit(daemon: &mut Daemon, code: i32, patience: Duration) -> Result<(), String> {
    match daemon.exit_code(patience) {
        Some(ended) if ended == code => Ok(()),
        Some(ended) => Err(format!("ended with {ended}, not {code}")),
        None => Err(format!("did not end with {code}")),
    }
}

/// Asks for the exposition until it is as expected.
fn scrape(daemon: &Daemon, expectations: &[Expectation], patience: Duration) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let answer =
            daemon.ask("GET", &daemon.telemetry_path, &[]).map_err(|error| format!("scrape: {error}"))?;
        let text = answer.text();
        let problems: Vec<String> = expectations.iter().filter_map(|one| problem(&text, one)).collect();
        if problems.is_empty() && answer.status == 200 {
            return Ok(());
        }
        if start.elapsed() > patience {
            return Err(format!("status {}: {}", answer.status, problems.join("\n    ")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ask(daemon: &Daemon, request: &Request) -> Result<(), String> {
    let Request { method, path, with, answer: expected } = request;
    let answer = daemon.ask(method, path, with).map_err(|error| format!("{method} {path}: {error}"))?;
    let text = answer.text();
    let mut status = 200;
    for one in expected {
        let holds = match one {
            Answer::Status(code) => {
                status = *code;
                true
            }
            Answer::Header(name, form) => answer.header(name).is_some_and(|value| is_like(value, form)),
            Answer::NoHeader(name) => answer.header(name).is_none(),
            Answer::Body(body) => answer.body == payload(body),
            Answer::Has(part) => text.contains(part.as_str()),
            Answer::Hasnt(part) => !text.contains(part.as_str()),
        };
        if !holds {
            let (status, headers) = (answer.status, &answer.headers);
            return Err(format!("{method} {path}: not {one:?}: {status} {headers:?} {text:.300}"));
        }
    }
    if answer.status == status {
        return Ok(());
    }
    Err(format!("{method} {path}: status {}, not {status}", answer.status))
}
