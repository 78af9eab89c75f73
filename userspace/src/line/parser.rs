//! Line -> [`Event`]s, each error counted under its reason.

use super::dogstatsd::{self, Fields};
use super::notice::{self, Notice};
use super::sample::{self, SampleType};
use super::tags::{Resolved, TagList};
use super::{Dialects, Event, LineError, Tally, head, plain};

/// Reads lines; keeps its scratch space, so that a line with few tags costs no allocation.
#[derive(Debug, Default)]
pub struct Parser {
    pub dialects: Dialects,
    joined_name: String,
    escaped_keys: String,
    hasher: foldhash::fast::RandomState,
}

impl Parser {
    /// A parser for `dialects`.
    #[must_use]
    pub fn new(dialects: Dialects) -> Self {
        Self { dialects, ..Self::default() }
    }

    /// Hands each event of `line` to `sink`, in order, and counts in `tally` what came of the line.
    ///
    /// `line` stands between two `\n` and may be any bytes. A line that came from a cache by
    /// [`super::split_value`] must be counted by the caller: one line, one sample, one event, and
    /// one in [`Tally::tags`] if the event has tags.
    pub fn parse_line(&mut self, line: &[u8], tally: &mut Tally, sink: &mut impl FnMut(Event<'_>)) {
        let Some(event) = plain::event(line, self.dialects) else {
            return self.parse_any(line, tally, sink);
        };
        tally.lines += 1;
        tally.samples += 1;
        tally.events += 1;
        sink(event);
    }

    /// The event of a line of `head_bytes` up to its `:` and `tail_bytes` from the `|` behind its value on, as
    /// [`super::split_value`] splits it, if nothing is odd about it. To be counted by the caller: one line, one
    /// sample, one event.
    #[inline]
    #[must_use]
    pub fn plain_event<'a>(&self, line: &'a [u8], head_bytes: usize, tail_bytes: usize) -> Option<Event<'a>> {
        let (front, tail) = line.split_at_checked(line.len().checked_sub(tail_bytes)?)?;
        let (head, value) = front.split_at_checked(head_bytes)?;
        plain::event_of((head, value.get(1..)?, tail), front, self.dialects)
    }

    /// The same for every line, more slowly.
    #[inline(never)]
    pub(super) fn parse_any(&mut self, line: &[u8], tally: &mut Tally, sink: &mut impl FnMut(Event<'_>)) {
        tally.lines += 1;
        if line.is_empty() {
            tally.empty += 1;
        } else if let Err(error) = self.parse(line, tally, sink) {
            tally.refuse(error);
        }
    }

    fn parse(
        &mut self,
        line: &[u8],
        tally: &mut Tally,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), LineError> {
        let line = simdutf8::basic::from_utf8(line).map_err(|_| LineError::MalformedLine)?;
        let dialects = self.dialects;
        if dialects.dogstatsd
            && let Some(notice) = notice::read(line)
        {
            match notice? {
                Notice::Event => tally.notice_events += 1,
                Notice::ServiceCheck => tally.service_checks += 1,
            }
            return Ok(());
        }
        let (head, mut rest) = cut(line, b':').ok_or(LineError::MalformedLine)?;
        if head.is_empty() {
            return Err(LineError::MalformedLine);
        }

        let mut tags = TagList::new(&mut self.escaped_keys, &self.hasher);
        let head = head::parse(head, dialects, &mut tags, &mut self.joined_name);
        tally.tag_errors += head.tag_errors;
        let has_section = dogstatsd::has_tags(rest);
        if has_section && !tags.is_empty() {
            return Err(LineError::MixedTaggingStyles);
        }

        let (values, suffix) = cut(rest, b'|').ok_or(LineError::NotEnoughParts)?;
        let packed = values.contains(':');
        if packed && !Suffix::parse(suffix).kind.packs(dialects) {
            return Err(LineError::InvalidAggregateType);
        }
        let dogstatsd = has_section && dialects.dogstatsd;
        let mut samples = Samples { name: head.name, dogstatsd, tally, sink };
        let mut alone = !packed && head.tag_errors == 0;
        if !packed && !has_section && dogstatsd::cut_sample(rest).is_some() {
            // Without a tag section only the last sample of a line can bring a tag of its own.
            alone = false;
            let mut head_tags = Resolved::new();
            tags.resolve_into(&mut head_tags);
            while let Some((sample, after)) = dogstatsd::cut_sample(rest) {
                rest = after;
                let Some((value, suffix)) = cut(sample, b'|') else {
                    samples.refuse(LineError::MalformedComponent);
                    continue;
                };
                let suffix = Suffix::parse(suffix);
                let mut no_keys = String::new();
                let mut no_tags = TagList::new(&mut no_keys, &self.hasher);
                let fields = suffix.fields.map(|fields| dogstatsd::parse(fields, dialects, &mut no_tags));
                samples.read(value, &suffix, &fields.unwrap_or_default(), &head_tags, false);
            }
        }
        // What is left is one sample, or several values that share everything after the first `|`.
        // That is read once: a datagram of many values and many tags must not cost their product.
        let Some((values, suffix)) = cut(rest, b'|') else {
            samples.refuse(LineError::MalformedComponent);
            return Ok(());
        };
        let suffix = Suffix::parse(suffix);
        let fields = suffix.fields.map(|fields| dogstatsd::parse(fields, dialects, &mut tags));
        let fields = fields.unwrap_or_default();
        let mut resolved = Resolved::new();
        tags.resolve_into(&mut resolved);
        for value in values.split(':') {
            samples.read(value, &suffix, &fields, &resolved, alone);
        }
        Ok(())
    }
}

/// What follows the value of a sample: `type|field|field`.
struct Suffix<'a> {
    kind: SampleType,
    /// `None` if nothing follows the type, not even a `|`; also if there are too many parts.
    fields: Option<&'a str>,
    too_many_parts: bool,
}

impl<'a> Suffix<'a> {
    fn parse(suffix: &'a str) -> Self {
        let (kind, fields) = cut(suffix, b'|').map_or((suffix, None), |(kind, fields)| (kind, Some(fields)));
        let too_many_parts = dogstatsd::too_many(fields);
        let fields = fields.filter(|_| !too_many_parts);
        Self { kind: sample::sample_type(kind.as_bytes()), fields, too_many_parts }
    }
}

/// The samples of one line on their way out.
struct Samples<'a, S> {
    name: &'a str,
    dogstatsd: bool,
    tally: &'a mut Tally,
    sink: &'a mut S,
}

impl<S: FnMut(Event<'_>)> Samples<'_, S> {
    fn refuse(&mut self, error: LineError) {
        self.tally.samples += 1;
        self.tally.refuse(error);
    }

    /// Reads one sample; `alone` says that nothing else of its line gave a sample or an error.
    fn read(
        &mut self,
        value: &str,
        suffix: &Suffix<'_>,
        fields: &Fields,
        tags: &[(&str, &str)],
        alone: bool,
    ) {
        if suffix.too_many_parts {
            return self.refuse(LineError::MalformedComponent);
        }
        let value = match sample::value(value) {
            Ok(value) => value,
            Err(error) => return self.refuse(error),
        };
        // From here on also what was found on the way to an error counts, for each value again.
        self.tally.tag_errors += fields.tag_errors;
        self.tally.kept += fields.bad_rates;
        self.tally.refuse_times(LineError::InvalidSampleFactor, fields.bad_rates);
        if let Some(error) = fields.error {
            return self.refuse(error);
        }
        self.tally.samples += 1;
        self.tally.tags += u64::from(!tags.is_empty());
        let Some(reading) = sample::reading(value, suffix.kind, fields.rates(), self.tally) else { return };
        self.tally.events += 1;
        let clean = fields.bad_rates == 0 && fields.tag_errors == 0 && fields.rates().len() <= 1;
        (self.sink)(Event {
            name: self.name,
            kind: reading.kind,
            raw: reading.raw,
            divisor: reading.divisor,
            times: reading.times,
            tags,
            dogstatsd: self.dogstatsd,
            cacheable: alone && clean,
        });
    }
}

/// `text` before and after the first `at`, an ASCII character.
fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    let position = memchr::memchr(at, text.as_bytes())?;
    Some((text.get(..position)?, text.get(position + 1..)?))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;
    use crate::line::EventKind;

    /// One line per event, as `name{key=value} kind value*times`, with `!` if it is not cacheable;
    /// then one per error, and the other counts that are not 0.
    fn read_with(parser: &mut Parser, line: &[u8]) -> String {
        let (mut tally, mut out) = (Tally::default(), String::new());
        parser.parse_line(line, &mut tally, &mut |event| {
            let tags: Vec<String> = event.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let kind = match event.kind {
                EventKind::Counter => "counter",
                EventKind::Gauge { relative: false } => "gauge",
                EventKind::Gauge { relative: true } => "gauge+",
                EventKind::Observer => "observer",
            };
            let odd = if event.cacheable { "" } else { "!" };
            let (name, tags, value, times) = (event.name, tags.join(","), event.value(), event.times);
            writeln!(out, "{name}{{{tags}}} {kind} {value}*{times}{odd}").expect("writing to a string");
        });
        check_sums(&tally);
        for error in LineError::ALL.into_iter().filter(|&error| tally.error(error) > 0) {
            writeln!(out, "{} {}", error.reason(), tally.error(error)).expect("writing to a string");
        }
        let counts = [
            ("tag_errors", tally.tag_errors),
            ("vanished", tally.vanished),
            ("notice_events", tally.notice_events),
            ("service_checks", tally.service_checks),
        ];
        for (name, count) in counts {
            if count > 0 {
                writeln!(out, "{name} {count}").expect("writing to a string");
            }
        }
        out
    }

    #[track_caller]
    fn check_sums(tally: &Tally) {
        let fates = [tally.empty, tally.notice_events, tally.service_checks, tally.refused_lines()];
        assert_eq!(
            fates.iter().sum::<u64>() + u64::from(tally.samples > 0),
            tally.lines,
            "one line, one fate: {tally:?}"
        );
        assert_eq!(tally.lines_with_samples(), u64::from(tally.samples > 0), "{tally:?}");
        assert_eq!(tally.samples, tally.events + tally.vanished + tally.refused_samples(), "{tally:?}");
    }

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        check_bytes(line.as_bytes(), expected);
    }

    #[track_caller]
    fn check_bytes(line: &[u8], expected: &[&str]) {
        let read = read_with(&mut Parser::default(), line);
        assert_eq!(read.lines().collect::<Vec<_>>(), expected, "{}", line.escape_ascii());
    }

    #[test]
    fn each_type_gives_its_event() {
        check("a:2|c", &["a{} counter 2*1"]);
        check("a:2|g", &["a{} gauge 2*1"]);
        check("a:+2|g", &["a{} gauge+ 2*1"]);
        check("a:-2|g", &["a{} gauge+ -2*1"]);
        check("a:200|ms", &["a{} observer 0.2*1"]);
        check("a:200|h", &["a{} observer 200*1"]);
        check("a:-200|d", &["a{} observer -200*1"]);
    }

    #[test]
    fn an_unknown_type_is_an_illegal_event() {
        for kind in ["s", "", "C", "c ", " c", "c\r", "ms2"] {
            check(&format!("a:1|{kind}"), &["illegal_event 1"]);
        }
    }

    #[test]
    fn an_empty_line_is_nothing() {
        check("", &[]);
    }

    #[test]
    fn a_line_without_name_or_colon_or_text_is_malformed() {
        check("a", &["malformed_line 1"]);
        check("a|c", &["malformed_line 1"]);
        check(":1|c", &["malformed_line 1"]);
        check_bytes(b"a:1|c|#k:v,x:\xff", &["malformed_line 1"]);
    }

    #[test]
    fn a_line_without_a_bar_has_too_few_parts() {
        check("a:1", &["not_enough_parts_after_colon 1"]);
        check("a:1:2", &["not_enough_parts_after_colon 1"]);
        check("|h|#c:Kafka::S,t:up", &["not_enough_parts_after_colon 1", "tag_errors 1"]);
    }

    #[test]
    fn a_value_must_be_a_number() {
        check("a:x|c", &["malformed_value 1"]);
        check("a:|c", &["malformed_value 1"]);
        check("a:nan|c", &["a{} counter NaN*1"]);
    }

    #[test]
    fn a_counter_is_divided_by_its_rates() {
        check("a:1|c|@0.5", &["a{} counter 2*1"]);
        check("a:1|c|@0.5|@0.1", &["a{} counter 20*1!"]);
        check("a:1|c|@0", &["a{} counter 1*1"]);
        check("a:1|c|@-1", &["a{} counter -1*1"]);
        check("a:1|c|@inf", &["a{} counter 0*1"]);
    }

    #[test]
    fn an_observation_counts_one_over_its_rate_times() {
        check("a:1|h|@0.3", &["a{} observer 1*3"]);
        check("a:1|h|@0.7", &["a{} observer 1*1"]);
        check("a:1|h|@0.5|@0.1", &["a{} observer 1*10!"]);
        check("a:1|h|@1e-7", &["a{} observer 1*10000000"]);
    }

    #[test]
    fn an_observation_that_counts_zero_times_vanishes() {
        for rate in ["2", "-1", "inf", "nan", "1e-300"] {
            check(&format!("a:1|h|@{rate}"), &["vanished 1"]);
        }
        check("a:1|h|@1e400", &["invalid_sample_factor 1", "vanished 1"]);
    }

    #[test]
    fn a_gauge_ignores_its_rate() {
        check("a:3|g|@0.1", &["a{} gauge 3*1"]);
        check("a:3|g|@x", &["a{} gauge 3*1!", "invalid_sample_factor 1"]);
    }

    #[test]
    fn a_rate_that_is_no_number_keeps_the_sample() {
        check("a:1|c|@x", &["a{} counter 1*1!", "invalid_sample_factor 1"]);
        check("a:1|c|@", &["a{} counter 1*1!", "invalid_sample_factor 1"]);
        check("a:1|c|@0.5\r", &["a{} counter 1*1!", "invalid_sample_factor 1"]);
    }

    #[test]
    fn samples_of_a_line_are_read_each_with_its_own_fields() {
        check("a:1|c:2|g:3|ms|@0.5", &["a{} counter 1*1!", "a{} gauge 2*1!", "a{} observer 0.003*2!"]);
        check("a:1|c:2", &["a{} counter 1*1!", "malformed_component 1"]);
        check("a:1|c|T1656581400:3|c", &["a{} counter 1*1!", "a{} counter 3*1!"]);
    }

    #[test]
    fn packed_values_share_type_and_fields() {
        check("a:1:x:3|h|@0.5", &["a{} observer 1*2!", "a{} observer 3*2!", "malformed_value 1"]);
        check("a:1:2|h|@x", &["a{} observer 1*1!", "a{} observer 2*1!", "invalid_sample_factor 2"]);
        check("a:1:2|d|#k:v,x", &["a{k=v} observer 1*1!", "a{k=v} observer 2*1!", "tag_errors 2"]);
        check("a:1:2|d|c:abc", &["a{container_id=abc} observer 1*1!", "a{container_id=abc} observer 2*1!"]);
    }

    #[test]
    fn counters_and_gauges_are_packed_where_that_is_wanted() {
        let on = Dialects { packing: true, ..Dialects::default() };
        check_dialects(on, "a:1:2|c|@0.5|#k:v", &["a{k=v} counter 2*1!", "a{k=v} counter 4*1!"]);
        check_dialects(
            on,
            "a:1:+2:-3:4|g",
            &["a{} gauge 1*1!", "a{} gauge+ 2*1!", "a{} gauge+ -3*1!", "a{} gauge 4*1!"],
        );
        check_dialects(on, "a:1:2|h", &["a{} observer 1*1!", "a{} observer 2*1!"]);
        for kind in ["s", "", "cc"] {
            check_dialects(on, &format!("a:1:2|{kind}|#k:v"), &["invalid_extended_aggregate_type 1"]);
        }
    }

    #[test]
    fn what_is_no_observer_is_not_packed() {
        for kind in ["c", "g", "s", "", "cc"] {
            check(&format!("a:1:2|{kind}|#k:v"), &["invalid_extended_aggregate_type 1"]);
        }
        let off = Dialects { dogstatsd: false, ..Dialects::default() };
        check_dialects(off, "a:1:2|d", &["a{} observer 1*1!", "a{} observer 2*1!"]);
    }

    #[test]
    fn a_sample_has_two_to_six_parts() {
        check("a:1|c|T|T|T|T", &["a{} counter 1*1"]);
        check("a:1|c|T|T|T|T|T", &["malformed_component 1"]);
        check("a:x|c||||||", &["malformed_component 1"]);
        check("a:1|c|", &["malformed_component 1"]);
        check("a:1|c||@0.5", &["malformed_component 1"]);
        check("a:x|c|", &["malformed_value 1"]);
    }

    #[test]
    fn fields_are_known_by_their_first_character() {
        check("a:1|c|x:y", &["malformed_component 1", "invalid_sample_factor 1"]);
        check("a:1|c|e", &["invalid_sample_factor 1"]);
        check("a:1|c|0.5", &["invalid_sample_factor 1"]);
        check("a:1|c|@0.1|#k:v|c:x:y|Tz", &["a{k=v,container_id=x:y} counter 10*1"]);
        check("a:1|c|#k:v|card", &["malformed_container_id 1"]);
        check("a:1|c|#k:v|c:", &["malformed_container_id 1"]);
        check("a:1|c|@x|#k:v|9", &["invalid_sample_factor 2"]);
    }

    #[test]
    fn a_container_does_not_tear_its_line_apart() {
        check("a:1|c|c:abc", &["a{container_id=abc} counter 1*1"]);
        check("a:1|h|@0.5|c:in-1:x|T9", &["a{container_id=in-1:x} observer 1*2"]);
        check("a,k=v:1|c|c:abc", &["a{k=v,container_id=abc} counter 1*1"]);
        check("a:1|c|c:", &["malformed_container_id 1"]);
    }

    #[test]
    fn the_container_of_the_last_sample_is_that_of_no_other() {
        check("a,k=v:1|c|T5:2|g|c:abc", &["a{k=v} counter 1*1!", "a{k=v,container_id=abc} gauge 2*1!"]);
        // Before a field comes a type.
        check("a:1|c:2|c", &["a{} counter 1*1!", "a{} counter 2*1!"]);
        check("a:1|c|@0.5:2|c:3|h", &["a{} counter 2*1!", "a{} counter 2*1!", "a{} observer 3*1!"]);
    }

    #[test]
    fn origin_and_cardinality_cost_no_sample_and_make_no_tag() {
        for field in ["e:it-false,cn-app,pu-1:2", "e:", "card:low", "card:"] {
            check(&format!("a:1|c|{field}"), &["a{} counter 1*1"]);
            check(&format!("a:1|c|#k:v|{field}|@0.5"), &["a{k=v} counter 2*1"]);
            check(&format!("a:1:2|h|{field}"), &["a{} observer 1*1!", "a{} observer 2*1!"]);
        }
        let all = "a:100|c|@0.1|#k:v|c:ci-1|T1656581400|e:it-false|card:low";
        check(all, &["a{k=v,container_id=ci-1} counter 1000*1"]);
        check("a:1|c|T|e:x|T|card:x|T|T|e:x", &["a{} counter 1*1"]);
        check("a:1|c|T|e:x|T|T|T|T", &["malformed_component 1"]);
    }

    #[test]
    fn events_and_service_checks_are_no_samples() {
        check("_e{5,4}:title|text|#k:v", &["notice_events 1"]);
        check("_e{2,2}:ab|cd|d:1|h:host", &["notice_events 1"]);
        check("_sc|db|2|h:host|m:a:1|c", &["service_checks 1"]);
        check("_e{5,4}:1|c", &["malformed_event 1"]);
        check("_sc|a:1|c", &["malformed_service_check 1"]);
        check("_e.x:1|c", &["_e.x{} counter 1*1"]);
        let off = Dialects { dogstatsd: false, ..Dialects::default() };
        check_dialects(off, "_e{1,1}:1|h", &["_e{1{} observer 1*1!", "tag_errors 1"]);
    }

    #[test]
    fn dogstatsd_tags_are_read() {
        check("a:1|c|#k:v,k2:x:y=z", &["a{k=v,k2=x:y=z} counter 1*1"]);
        check("a:1|c|#k:v|#l:w", &["a{k=v,l=w} counter 1*1"]);
        check("a:1|c|##k:v,#l:w,##m:x", &["a{k=v,l=w,_m=x} counter 1*1"]);
        check("a:1|c|#k:v\r", &["a{k=v\r} counter 1*1"]);
        check("a:1|c|#", &["a{} counter 1*1"]);
        check("a:1|c|#k:héllo,ü:1", &["a{k=héllo,_=1} counter 1*1"]);
        check("a:1|c|#k", &["a{} counter 1*1!", "tag_errors 1"]);
        check("a:1|c|#k:1,k:2", &["a{k=2} counter 1*1"]);
    }

    #[test]
    fn tags_in_the_name_are_read() {
        check("a#k=v,l=w#x=y:1|c", &["a{k=v,l=w#x=y} counter 1*1"]);
        check("a,k=v#l=w:1|c", &["a{k=v#l=w} counter 1*1"]);
        check("a[k=v,l=w].b:1|c", &["a.b{k=v,l=w} counter 1*1"]);
        check("a[]#k=v:1|c", &["a#k=v{} counter 1*1"]);
        check("a,k=v:1|c:2|c", &["a{k=v} counter 1*1!", "a{k=v} counter 2*1!"]);
        check("a,k:1|c", &["a{} counter 1*1!", "tag_errors 1"]);
        check("#k=v:1|c", &["{k=v} counter 1*1"]);
    }

    #[test]
    fn brackets_that_do_not_pair_stay_in_the_name() {
        check("[k=v,l=wa.x:1|c", &["[k=v,l=wa.x{} counter 1*1!", "tag_errors 1"]);
        check("a]:1|c", &["a]{} counter 1*1!", "tag_errors 1"]);
        // Crashes statsd_exporter.
        check("a]b[c:1|c", &["a]b[c{} counter 1*1!", "tag_errors 1"]);
    }

    #[test]
    fn tags_in_both_places_are_refused() {
        for head in ["a#k=v", "a,k=v", "a[k=v]"] {
            check(&format!("{head}:1|c|#l:w"), &["mixed_tagging_styles 1"]);
        }
        check("a#k:1|c|#l:w", &["a{l=w} counter 1*1!", "tag_errors 1"]);
    }

    #[track_caller]
    fn check_dialects(dialects: Dialects, line: &str, expected: &[&str]) {
        let read = read_with(&mut Parser::new(dialects), line.as_bytes());
        assert_eq!(read.lines().collect::<Vec<_>>(), expected, "{line}");
    }

    #[test]
    fn a_dialect_that_is_off_leaves_its_tags_alone() {
        let all = Dialects::default();
        let no_librato = Dialects { librato: false, ..all };
        check_dialects(no_librato, "a#k=v,l=w:1|c", &["a#k=v{l=w} counter 1*1"]);
        check_dialects(Dialects { influx: false, ..all }, "a,k=v:1|c", &["a,k=v{} counter 1*1"]);
        let no_signalfx = Dialects { signalfx: false, ..all };
        check_dialects(no_signalfx, "a[k=v]:1|c", &["a[k=v]{} counter 1*1"]);
        check_dialects(no_signalfx, "a]b[c:1|c", &["a]b[c{} counter 1*1"]);
        check_dialects(all, "a;k=v:1|c", &["a;k=v{} counter 1*1"]);
        let no_dogstatsd = Dialects { dogstatsd: false, ..all };
        check_dialects(no_dogstatsd, "a:1|c|#k:v,x", &["a{} counter 1*1"]);
        check_dialects(no_dogstatsd, "a#k=v:1|c|#k:v", &["mixed_tagging_styles 1"]);
        check_dialects(no_dogstatsd, "a:1|c|#k:v:2", &["a{} counter 1*1"]);
    }

    #[test]
    fn graphite_tags_are_read_where_they_are_wanted() {
        let all = Dialects { graphite: true, ..Dialects::default() };
        check_dialects(all, "a;k=v;l=w,x:1|c", &["a{k=v,l=w,x} counter 1*1"]);
        check_dialects(all, "a;k=v;;l;:1|c", &["a{k=v} counter 1*1!", "tag_errors 2"]);
        check_dialects(all, "a,k=v;l=w:1|c", &["a{k=v;l=w} counter 1*1"]);
        check_dialects(all, "a;k=v:1|c|#l:w", &["mixed_tagging_styles 1"]);
        check_dialects(all, "a;k=v:1|c:2|c", &["a{k=v} counter 1*1!", "a{k=v} counter 2*1!"]);
        check_dialects(all, "a[k=v];l=w:1|c", &["a;l=w{k=v} counter 1*1"]);
    }

    #[test]
    fn a_set_is_read_and_refused() {
        check("a:1|s|#k:v", &["illegal_event 1"]);
        check("a:user|s", &["malformed_value 1"]);
    }

    #[test]
    fn many_packed_values_with_many_tags_cost_their_sum() {
        let tags: String = (0..8000).map(|at| format!("k{at}:v,")).collect();
        let line = format!("a{}|h|#{tags}", ":1".repeat(8000));
        let mut events = 0;
        Parser::default().parse_line(line.as_bytes(), &mut Tally::default(), &mut |event| {
            assert_eq!(event.tags.len(), 8000);
            events += 1;
        });
        assert_eq!(events, 8000);
    }

    proptest! {
        #[test]
        fn any_bytes_are_accounted_for(line in any::<Vec<u8>>()) {
            read_with(&mut Parser::default(), &line);
        }

        #[test]
        fn bytes_of_the_grammar_are_accounted_for(line in "(_e\\{|_sc\\||[ab]{0,2})[:|#@,;=\\[\\]{}cegmsh12T.+-]{0,24}") {
            read_with(&mut Parser::default(), line.as_bytes());
        }

        #[test]
        fn a_cacheable_event_keeps_all_but_its_number(
            line in "[ab,#\\[\\]=;]{1,8}:[0-9.+-]{1,3}\\|(c|g|ms|h|s)(\\|(card:|[@#ckTe0-9.:,]{0,6})){0,3}",
            other in -1e9..1e9f64,
            graphite: bool,
            packing: bool,
        ) {
            let mut parser = Parser::new(Dialects { graphite, packing, ..Dialects::default() });
            let mut first = None;
            parser.parse_line(line.as_bytes(), &mut Tally::default(), &mut |event| {
                first = event.cacheable.then(|| format!("{:?}", Event { raw: 0.0, kind: unsigned(event.kind), ..event }));
            });
            let Some(first) = first else { return Ok(()) };
            let (head, _, tail) = crate::line::split_value(line.as_bytes()).expect("cacheable lines split");
            let line = [head, b":", other.to_string().as_bytes(), tail].concat();
            let (mut tally, mut second) = (Tally::default(), None);
            parser.parse_line(&line, &mut tally, &mut |event| {
                assert_eq!(event.raw.to_bits(), other.to_bits());
                second = Some(format!("{:?}", Event { raw: 0.0, kind: unsigned(event.kind), ..event }));
            });
            prop_assert_eq!(Some(first), second);
            prop_assert_eq!((tally.samples, tally.events, tally.tag_errors), (1, 1, 0));
        }
    }

    fn unsigned(kind: EventKind) -> EventKind {
        match kind {
            EventKind::Gauge { .. } => EventKind::Gauge { relative: false },
            other => other,
        }
    }
}
