//! Event -> rule -> the series it goes to, and what to do with its value.

use smallvec::SmallVec;

use super::core::Core;
use crate::{
    clock::Timestamp,
    ledger::{EventError, Mapping},
    line::{Event, EventKind, escape::escape_name},
    mapper::{
        CounterType, MetricType, ObserverType, RuleAction, TimerUnit, ZeroSiblings,
        cache::{Action, Recipe},
        results::Matched,
    },
    registry::{FamilyKind, Refusal, Registry, SeriesId, SeriesRequest},
    sender::SenderId,
};

impl Core {
    /// Maps the event and finds or makes its series.
    pub(super) fn resolve(
        &mut self,
        event: &Event<'_>,
        sender: SenderId,
        now: Timestamp,
    ) -> Result<Recipe, Unrecorded> {
        let metric_type = MetricType::from(event.kind);
        let rule = self.find_rule(metric_type, event);
        let mapper = &*self.mapper;
        let rule = rule.and_then(|rule| mapper.rule(rule));
        let options = rule.map_or(mapper.unmapped(), |rule| &rule.series);
        let mut recipe = Recipe {
            series: SeriesId::NONE,
            action: Action::Drop,
            divisor: event.divisor,
            scale: 1.0,
            times: event.times,
            tagged: !event.tags.is_empty(),
            mapped: rule.is_some(),
            overflow: false,
            copy: None,
        };
        self.name.clear();
        let mut labels: SmallVec<[(&str, &str); 16]> = SmallVec::from_slice(event.tags);
        let mut up_down = false;
        if let Some(rule) = rule {
            if rule.action == RuleAction::Drop {
                return Ok(recipe);
            }
            if let Some(same) = &rule.same_event {
                let standing = self.copies.stand(same, &self.registry, now);
                recipe.copy = standing.id;
                if let Some(counting) = standing.behind {
                    let counter = event.kind == EventKind::Counter && rule.series.sender_gauge.is_none();
                    recipe.action = Action::Superseded { counter };
                    recipe.scale = rule.scale.unwrap_or(1.0);
                    recipe.series = counting;
                    return Ok(recipe);
                }
            }
            rule.tag_changes.apply(&mut labels);
            self.label_values.clear();
            if let Some(name) = &rule.constant_name {
                self.name.push_str(name);
            } else {
                rule.name.expand(event.name, &self.captures, &mut self.label_values);
                escape_name(&self.label_values, &mut self.name);
            }
            if self.name.is_empty() {
                return Err(Unrecorded {
                    mapping: None,
                    metric_type,
                    why: EventError::EmptyMetricName.into(),
                });
            }
            up_down = rule.counter == CounterType::UpDown;
            recipe.scale = rule.scale.unwrap_or(1.0);
            if event.kind == EventKind::Observer && recipe.divisor == TimerUnit::Milliseconds.per_second() {
                recipe.divisor = rule.timer_unit.per_second();
            }
            // First all texts that must be put together, then the borrows of them.
            self.label_values.clear();
            let mut ends: SmallVec<[usize; 8]> = SmallVec::new();
            for (_, value) in &rule.labels {
                if value.is_composed() {
                    value.expand(event.name, &self.captures, &mut self.label_values);
                    ends.push(self.label_values.len());
                }
            }
            let (mut from, mut ends) = (0, ends.into_iter());
            // Only a tag can be in the way, for a rule has each key once.
            let tags = labels.len();
            for (key, value) in &rule.labels {
                let value = value.borrowed(event.name, &self.captures).unwrap_or_else(|| {
                    let end = ends.next().unwrap_or(from);
                    self.label_values.get(std::mem::replace(&mut from, end)..end).unwrap_or_default()
                });
                match labels.iter_mut().take(tags).find(|(tag, _)| **tag == **key) {
                    Some(_) if rule.honor_labels => {}
                    Some(tag) => tag.1 = value,
                    None => labels.push((key, value)),
                }
            }
        } else {
            escape_name(event.name, &mut self.name);
        }
        let mapping = if rule.is_some() { Mapping::Mapped } else { Mapping::Unmapped };
        let unrecorded = |why| Unrecorded { mapping: Some(mapping), metric_type, why };
        if self.name.is_empty() {
            return Err(unrecorded(EventError::EmptyMetricName.into()));
        }
        if let Some(senders) = &self.senders {
            for (name, value) in senders.labels(sender) {
                // What the address says is true; a tag of that name is only what the sender says.
                match labels.iter_mut().find(|(label, _)| *label == name) {
                    Some(label) => label.1 = value,
                    None => labels.push((name, value)),
                }
            }
        }
        let kind;
        let by_sender = options.sender_gauge.is_some();
        (kind, recipe.action) = match event.kind {
            EventKind::Counter if up_down && by_sender => (FamilyKind::Gauge, Action::SenderUpDown),
            EventKind::Counter if up_down => (FamilyKind::Gauge, Action::UpDown),
            // Before a series is made for it.
            EventKind::Counter if event.value() * recipe.scale < 0.0 => {
                return Err(unrecorded(EventError::IllegalNegativeCounter.into()));
            }
            EventKind::Counter => (FamilyKind::Counter, Action::Count),
            EventKind::Gauge { .. } if by_sender => (FamilyKind::Gauge, Action::SenderGauge),
            EventKind::Gauge { .. } => (FamilyKind::Gauge, Action::Gauge),
            EventKind::Observer => match options.observer {
                ObserverType::Summary => (FamilyKind::Summary, Action::Observe),
                ObserverType::Histogram => (FamilyKind::Histogram, Action::Observe),
            },
        };
        if let (Action::Observe, Some(within)) =
            (recipe.action, rule.and_then(|rule| rule.drop_repeats_within))
        {
            recipe.action = Action::ObserveOnce { within };
        }
        let request = SeriesRequest {
            family: &self.name,
            kind,
            labels: &labels,
            help: &options.help,
            ttl: options.ttl,
            max_series: options.max_series,
            label_budget: options.label_budget.as_ref(),
            sender_gauge: options.sender_gauge,
            summary: &options.summary,
            histogram: &options.histogram,
        };
        let same_event = rule.and_then(|rule| rule.same_event.as_ref());
        if let Some(same) = same_event {
            self.copies.begin(same, &mut self.registry, now);
        }
        let resolved =
            self.registry.resolve(&request, now).map_err(|refusal| unrecorded(Why::Refused(refusal)))?;
        (recipe.series, recipe.overflow) = (resolved.id, resolved.overflow);
        if let Some(same) = same_event.filter(|_| !resolved.overflow) {
            self.copies.note(same, resolved.id, &self.registry);
        }
        if resolved.created
            && kind != FamilyKind::Gauge
            && let Some(rule) = rule.filter(|rule| !rule.zero_siblings.is_empty())
        {
            self.ledger.refused_siblings +=
                make_siblings(&mut self.registry, &rule.zero_siblings, &request, resolved.id, now);
        }
        Ok(recipe)
    }

    /// The index of the rule that takes an event. `self.captures` then holds what its pattern captured.
    pub(super) fn find_rule(&mut self, metric_type: MetricType, event: &Event<'_>) -> Option<usize> {
        if self.mapper.rule_count() == 0 && self.results.entries_max() == 0 {
            return None;
        }
        let key = self.results.key(metric_type, event.name);
        if let Some(known) = self.results.get(key) {
            let known = known.as_ref()?;
            self.captures.clone_from(&known.captures);
            return Some(known.rule);
        }
        self.ledger.mapping_misses += 1;
        let found = self.mapper.find_event(metric_type, event.name, event.into(), &mut self.captures);
        // Where tags have a say, a name is not enough to go by.
        if !found.by_tags {
            let captures = &self.captures;
            self.results.insert(key, || found.index.map(|rule| Matched { rule, captures: captures.clone() }));
        }
        found.index
    }

    /// Counts an event without a series, under its reason. `self.name` is still the family's.
    pub(super) fn count_unrecorded(&mut self, unrecorded: &Unrecorded, times: u64) {
        self.count_unrecorded_lines(unrecorded, 1, times);
    }

    /// The same for `lines` lines, of which each counts `times` times.
    pub(super) fn count_unrecorded_lines(&mut self, unrecorded: &Unrecorded, lines: u64, times: u64) {
        match unrecorded.mapping {
            Some(mapping) => self.ledger.count_mapping(mapping, lines.saturating_mul(times)),
            None => self.ledger.count_lookups(lines.saturating_mul(times)),
        }
        match unrecorded.why {
            Why::Error(error) => self.ledger.count_error(error, lines),
            Why::Refused(refusal) => {
                self.ledger.count_refused(unrecorded.metric_type, &self.name, refusal, lines, times);
            }
        }
    }
}

/// Makes the series that differ from the one of `request` in the labels of `siblings` only, so that they
/// are at 0 before they count. Returns how many had no room.
fn make_siblings(
    registry: &mut Registry,
    siblings: &[ZeroSiblings],
    request: &SeriesRequest<'_>,
    of: SeriesId,
    now: Timestamp,
) -> u64 {
    let mut labels: SmallVec<[(&str, &str); 16]> = SmallVec::from_slice(request.labels);
    let place = |siblings: &ZeroSiblings| request.labels.iter().position(|label| *label.0 == *siblings.label);
    // A label that the event does not have is none of the series'.
    let varied = siblings.iter().filter_map(|siblings| Some((place(siblings)?, &*siblings.values)));
    let varied = varied.collect::<SmallVec<[_; 4]>>();
    let combinations = varied.iter().map(|(_, values)| values.len()).product();
    let mut refused = 0;
    for combination in 0..combinations {
        let mut rest: usize = combination;
        for (place, values) in &varied {
            if let (Some(label), Some(value)) = (labels.get_mut(*place), values.get(rest % values.len())) {
                label.1 = value;
            }
            rest /= values.len();
        }
        let made = registry.make_sibling(&SeriesRequest { labels: &labels, ..*request }, of, now);
        refused += u64::from(made.is_err());
    }
    refused
}

/// An event that has no series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unrecorded {
    /// What the mapping counted; `None` if it came to no decision.
    pub(super) mapping: Option<Mapping>,
    pub(super) metric_type: MetricType,
    pub(super) why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Error(EventError),
    Refused(Refusal),
}

impl From<EventError> for Why {
    fn from(error: EventError) -> Self {
        Self::Error(error)
    }
}
