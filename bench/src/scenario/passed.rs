//! Other people's frames through an interface -> what our program there adds to each.

use crate::{
    frame::{FrameBuilder, frame},
    lab::Lab,
    load::{self, Limits, Pace, Payloads},
    network::{self, Pair, SECOND_RECEIVING, received},
    raw_program::{Action, RawProgram},
    report::{Findings, Row},
    server::{Contestant, CpuClock, Doors, Server},
};

use super::offer::{check_cable, unspoilt};

const NAME: &str = "passed";
const GENERATOR_CPU: usize = 0;
/// Frames of one call, so that its set-up is small beside them.
const FRAMES: u64 = 65_536;
/// What the stack throws away at once, so that little but the program differs.
const NOBODYS_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const EXPERIMENTAL: u16 = 0x88b5;

/// Sends frames that are not ours through two pairs in turn: one with an empty program that passes
/// all, one with our door.
///
/// # Errors
///
/// A right is missing, or a frame was taken for ours.
pub fn measure(lab: &Lab) -> anyhow::Result<Findings> {
    let ours = lab.ours()?;
    network::within(|bare| {
        network::pin(GENERATOR_CPU)?;
        let door = network::second_pair()?;
        let _pass = RawProgram::load(Action::Pass)?.attach(bare.receiving)?;
        unspoilt(|| measure_between(lab, &ours, bare, door))
    })
}

fn measure_between(lab: &Lab, ours: &Contestant, bare: Pair, door: Pair) -> anyhow::Result<Findings> {
    let server = Server::start(ours, &lab.setup(Doors::XdpAt(SECOND_RECEIVING)))?;
    let before = server.figures()?.own_sum("rotameter_datagrams_total", "verdict=\"passed\"");
    let mut frames = 0;
    let mut rows = Vec::new();
    for (what, base) in [
        ("UDP to another port", frame().destination_mac(NOBODYS_MAC).destination_port(53)),
        ("TCP", frame().destination_mac(NOBODYS_MAC).protocol(6)),
        ("no IP", frame().ethertype(EXPERIMENTAL)),
    ] {
        let (mut without, mut with, mut differences) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..lab.runs {
            let (plain, _) = flood(lab, bare, &base)?;
            let arrived = received(SECOND_RECEIVING)?;
            let (ours, sent) = flood(lab, door, &base)?;
            // What the stack throws away counts as dropped there, too; so by what came.
            let came = received(SECOND_RECEIVING)?.frames - arrived.frames;
            check_cable(sent.saturating_sub(came), sent)?;
            frames += sent;
            without.push(plain);
            with.push(ours);
            differences.push(ours - plain);
        }
        rows.push(Row::new(NAME, format!("{what}: through an empty program"), "ns/frame", &without));
        rows.push(Row::new(NAME, format!("{what}: through our door"), "ns/frame", &with));
        rows.push(
            Row::new(NAME, format!("{what}: what our door adds"), "ns/frame", &differences).at_most(15.0),
        );
    }
    let passed = server.figures()?.own_sum("rotameter_datagrams_total", "verdict=\"passed\"") - before;
    #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
    let sent = frames as f64;
    // The kernel sends a few of its own (neighbour discovery).
    anyhow::ensure!(
        passed >= sent && passed < sent + 100.0,
        "{sent} frames were sent, the door passed {passed}; the count is not exact"
    );
    let mut findings = Findings::from(rows);
    findings.notes.push("sending, driver and the stack's throwing away are in both".to_owned());
    Ok(findings)
}

/// CPU time of one frame, flat out, and how many there were.
fn flood(lab: &Lab, pair: Pair, base: &FrameBuilder) -> anyhow::Result<(f64, u64)> {
    let payloads = Payloads::of([&b"airflow.ti.start.dag_1.task_1234:1|c"[..]]);
    let mut wire = load::Wire::to(pair, &payloads, base)?;
    let began = std::time::Instant::now();
    let before = CpuClock::THREAD.read()?;
    while began.elapsed() < lab.duration {
        wire.send(&payloads, Pace::FlatOut, Limits::datagrams(FRAMES))?;
    }
    let spent = CpuClock::THREAD.read()?.saturating_sub(before).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
    let frames = wire.frames() as f64;
    Ok((spent * 1e9 / frames, wire.frames()))
}
