//! A server under load -> what it took, what that cost, whether it lost any.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    judge::Judge,
    load::{self, Limits, Pace, Payloads, Target},
    network::Pair,
    raw_program::{Action, Attached, RawProgram},
    server::{Contestant, Doors, Figures, STATSD_TCP, Server, Setup, Throttle},
};

use super::{
    offer::{Offer, Sent},
    overload::accounted,
    totals::Totals,
};

/// Longer than an interval of promotion and the one before it.
const WARM_UP: Duration = Duration::from_millis(2_300);
const WARM_UP_RATE: f64 = 20_000.0;
/// Longer than a server may hold events back: the peer hands them on five times a second.
const HELD_BACK: Duration = Duration::from_millis(300);
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
const DIFFERENCES_SHOWN: usize = 3;
/// More than this one core does not send.
const RATE_MAX: f64 = 20e6;

/// What happens to a server while it is sent to.
#[derive(Clone, Copy, Debug)]
pub enum Meanwhile {
    Nothing,
    Throttled(Throttle),
    /// Once a second.
    Scraped,
}

/// A running server, and all that it was sent.
pub struct Trial {
    pub server: Server,
    name: String,
    ours: bool,
    judge: Arc<Judge>,
    totals: Totals,
    /// What it was filled with.
    filled: Vec<Payloads>,
    /// Whether nothing was lost so far, so that what each series must show is known.
    complete: bool,
    pub meanwhile: Meanwhile,
    /// The pair carries frames only to an end that has a program; a door of ours is one.
    _pass: Option<Attached>,
}

/// One load and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub sent: Sent,
    /// CPU time of the server's process.
    pub spent: Duration,
    /// Lines that reached the exposition.
    pub carried: f64,
    pub lost: f64,
}

impl Trial {
    /// Starts a server at the receiving end.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn start(pair: Pair, contestant: &Contestant, setup: &Setup) -> anyhow::Result<Self> {
        let has_door = contestant.ours && setup.doors == Doors::Xdp;
        let pass =
            if has_door { None } else { Some(RawProgram::load(Action::Pass)?.attach(pair.receiving)?) };
        Ok(Self {
            server: Server::start(contestant, setup)?,
            name: contestant.name.clone(),
            ours: contestant.ours,
            judge: Arc::clone(&contestant.judge),
            totals: Totals::default(),
            filled: Vec::new(),
            complete: true,
            meanwhile: Meanwhile::Nothing,
            _pass: pass,
        })
    }

    /// Sends each of them for a while, so that names are known and promoted, and holds what is shown
    /// against what was sent, series by series. The offers must not have been sent before.
    ///
    /// # Errors
    ///
    /// Ours lost something: at this rate nothing is. Others may, with a small receive buffer.
    pub fn warm(&mut self, offers: &mut [Offer<'_>]) -> anyhow::Result<()> {
        let each = WARM_UP / u32::try_from(offers.len().max(1))?;
        for offer in &mut *offers {
            offer.send(Some(WARM_UP_RATE), 1, each, &mut self.totals)?;
        }
        let figures = self.settled()?;
        if !self.ours && figures.lines() < self.totals.lines() {
            self.settle(&figures);
            return Ok(());
        }
        self.totals.check(&figures).with_context(|| format!("{}, warming up", self.name))?;
        self.check_series(offers)
    }

    /// Sends an offer's payloads once, of which none may be lost.
    ///
    /// # Errors
    ///
    /// One was.
    pub fn once(&mut self, offer: &mut Offer<'_>, rate: f64) -> anyhow::Result<()> {
        offer.send_once(rate, &mut self.totals)?;
        self.check()?;
        Ok(())
    }

    /// Sends all payloads once over TCP, where the server sets the pace, and adds them to what it
    /// must show. [`Self::check_series`] looks whether it does.
    ///
    /// # Errors
    ///
    /// The server ends a connection, or never rests.
    pub fn fill(&mut self, payloads: Payloads) -> anyhow::Result<()> {
        let target = Target::Tcp(STATSD_TCP.parse()?);
        load::send(&target, &payloads, Pace::FlatOut, Limits::datagrams(payloads.len() as u64))?;
        for payload in payloads.iter() {
            self.totals.add(&Totals::of(payload.bytes, &self.judge), 1.0);
        }
        self.filled.push(payloads);
        self.server.wait_until_quiet()?;
        std::thread::sleep(HELD_BACK);
        self.server.wait_until_quiet()
    }

    /// Holds what the server shows against all that it was sent.
    ///
    /// # Errors
    ///
    /// It shows something else.
    pub fn check(&self) -> anyhow::Result<Figures> {
        let figures = self.settled()?;
        self.totals.check(&figures).with_context(|| self.name.clone())?;
        Ok(figures)
    }

    /// Holds every series, by names, labels and values, against what it was filled with and all that these
    /// offers have sent, which must be all there was. After a loss there is nothing to hold it against.
    ///
    /// # Errors
    ///
    /// A series is lacking, or there is one too many, or one has another value.
    pub fn check_series(&self, offers: &[Offer<'_>]) -> anyhow::Result<()> {
        if !self.complete {
            return Ok(());
        }
        let mut lines = load::Totals::default();
        for payloads in &self.filled {
            lines.append(&payloads.totals(payloads.len() as u64));
        }
        offers.iter().for_each(|offer| lines.append(&offer.lines()));
        let scrape = self.server.scrape()?;
        let differences = lines.expected(&self.judge).differences(&scrape.text(), DIFFERENCES_SHOWN);
        anyhow::ensure!(
            differences.is_empty(),
            "{}: the exposition is not what was sent: {}",
            self.name,
            differences.join("; ")
        );
        Ok(())
    }

    /// From here on what is shown is what counts.
    fn settle(&mut self, figures: &Figures) {
        self.totals.settle(figures);
        self.complete = false;
    }

    /// What the server shows once it shows all that was sent, or nothing new any more.
    fn settled(&self) -> anyhow::Result<Figures> {
        let began = Instant::now();
        let mut last = None;
        loop {
            self.server.wait_until_quiet()?;
            let figures = self.server.figures()?;
            let shown = (figures.lines(), figures.counters, figures.observations);
            if self.totals.is_shown(&figures) || last == Some(shown) || began.elapsed() > SETTLED_WITHIN {
                return Ok(figures);
            }
            last = Some(shown);
            std::thread::sleep(HELD_BACK);
        }
    }

    /// Sends for `duration` at `rate`, or flat out, and looks what the exposition shows then. What
    /// was not lost must be there exactly; what ours lost it must have counted as lost.
    ///
    /// # Errors
    ///
    /// More is shown than was sent, or a loss that nobody counted; or what sending says.
    pub fn probe(
        &mut self,
        offer: &mut Offer<'_>,
        rate: Option<f64>,
        burst: u32,
        duration: Duration,
    ) -> anyhow::Result<Probe> {
        let what = || {
            format!(
                "{}, at {}",
                self.name,
                rate.map_or("full rate".to_owned(), |rate| format!("{rate:.0}/s"))
            )
        };
        let lines_before = self.totals.lines();
        let lost_before = if self.ours { self.server.figures()?.lost() } else { 0.0 };
        self.server.wait_until_quiet()?;
        let cpu = self.server.cpu()?;
        let mut send = || offer.send(rate, burst, duration, &mut self.totals);
        let sent = match self.meanwhile {
            Meanwhile::Nothing => send()?,
            Meanwhile::Throttled(throttle) => self.server.throttled(throttle, send)?,
            Meanwhile::Scraped => self.server.scraped(send)?,
        };
        self.server.wait_until_quiet()?;
        let spent = self.server.cpu()?.saturating_sub(cpu);
        let figures = self.settled()?;
        let lost = self.totals.lines() - figures.lines();
        if lost == 0.0 {
            self.totals.check(&figures).with_context(what)?;
        } else {
            anyhow::ensure!(lost > 0.0, "{}: {} more lines are shown than were sent", what(), -lost);
            let counted = figures.lost() - lost_before;
            anyhow::ensure!(
                !self.ours || counted == lost,
                "{}: {lost} datagrams are missing, {counted} were counted as lost; the ledger is open",
                what()
            );
            self.settle(&figures);
        }
        Ok(Probe { sent, spent, carried: figures.lines() - lines_before, lost })
    }

    /// [`Self::probe`] of ours, with the whole ledger held against what was sent since the start.
    ///
    /// # Errors
    ///
    /// A datagram ended nowhere, or in two places.
    pub fn probe_exactly_accounted(
        &mut self,
        offer: &mut Offer<'_>,
        rate: f64,
        duration: Duration,
    ) -> anyhow::Result<Probe> {
        let before = accounted(&self.server.figures()?);
        let probe = self.probe(offer, Some(rate), burst_at(rate), duration)?;
        let accounted = accounted(&self.server.figures()?) - before;
        #[expect(clippy::cast_precision_loss, reason = "a count of datagrams")]
        let sent = probe.sent.datagrams as f64;
        anyhow::ensure!(
            accounted == sent,
            "{}: {sent} datagrams were sent, {accounted} are accounted for; the ledger is open",
            self.name
        );
        Ok(probe)
    }

    /// [`Self::probe`] at a rate at which nothing may be lost.
    ///
    /// # Errors
    ///
    /// Something was.
    pub fn lossless(
        &mut self,
        offer: &mut Offer<'_>,
        rate: f64,
        burst: u32,
        duration: Duration,
    ) -> anyhow::Result<Probe> {
        let probe = self.probe(offer, Some(rate), burst, duration)?;
        anyhow::ensure!(probe.lost == 0.0, "{}, at {rate}/s: {} were lost", self.name, probe.lost);
        Ok(probe)
    }

    /// The highest rate found at which nothing is lost, and every rate that was tried: that of the
    /// flood, if it loses nothing, or by bisection. Each rate has two tries, for a neighbour may
    /// take the CPU away.
    ///
    /// # Errors
    ///
    /// As [`Self::probe`].
    pub fn highest(
        &mut self,
        offer: &mut Offer<'_>,
        duration: Duration,
        bisections: u32,
    ) -> anyhow::Result<(f64, Vec<Probe>)> {
        let mut probes = Vec::new();
        let flood = self.probe(offer, None, burst_at(RATE_MAX), duration)?;
        probes.push(flood);
        if flood.lost == 0.0 {
            return Ok((flood.sent.rate(), probes));
        }
        // What came through the flood is a better guess than half of it.
        let (mut good, mut bad) = (0.0, flood.sent.rate());
        let mut rate = (flood.carried / flood.sent.elapsed.as_secs_f64()).min(0.9 * bad);
        for _ in 0..bisections {
            let mut probe = self.probe(offer, Some(rate), burst_at(rate), duration)?;
            if probe.lost > 0.0 {
                probes.push(probe);
                probe = self.probe(offer, Some(rate), burst_at(rate), duration)?;
            }
            probes.push(probe);
            if probe.lost == 0.0 {
                good = probe.sent.rate().max(good);
            } else {
                bad = rate;
            }
            if good > 0.95 * bad {
                break;
            }
            rate = f64::midpoint(good, bad);
        }
        Ok((good, probes))
    }
}

impl Probe {
    /// What the kernel spent on each datagram sent, less what it spends on the same frames thrown
    /// away in front of the server.
    #[must_use]
    pub fn kernel_ns(&self, bare: &Sent) -> f64 {
        (self.sent.kernel_ns() - bare.kernel_ns()).max(0.0)
    }

    /// Time in the process for each line that was carried.
    #[must_use]
    pub fn server_ns(&self) -> f64 {
        self.spent.as_secs_f64() * 1e9 / self.carried.max(1.0)
    }
}

impl Figures {
    /// Datagrams that our daemon counted as lost.
    #[must_use]
    pub fn lost(&self) -> f64 {
        self.own_sum("rotameter_lost_datagrams_total", "")
    }
}

/// About a millisecond's worth at once.
fn burst_at(rate: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 2048")]
    let burst = (rate / 1_000.0).clamp(1.0, 2_048.0) as u32;
    burst
}
