//! Globs of a file, name -> the rule that takes it.
//!
//! All globs lie in one tree, a level for each segment; a node knows for each metric type the lowest
//! rule that ends in it, and the lowest at or below it. A look-up walks the branches that fit the
//! name, and skips what can no longer win, so it never visits a node twice: it takes at most as many
//! steps as the tree has nodes. What lies behind a `**` is not in the tree: such a rule hangs on the
//! node before, and is compared with the rest of the name.

use std::hash::BuildHasher as _;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::glob::{Glob, Segment, match_segments};
use super::rule::MetricType;
use super::template::Captures;
use crate::line::scan;

/// No rule, and no node.
const NONE: u32 = u32::MAX;
/// Segments of a name that are held without allocation.
const SEGMENTS_INLINE: usize = 12;
/// Entries of the stack that are held without allocation.
const STACK_INLINE: usize = 12;
/// Marks a stack entry that asks for the rules behind a `**`.
const DEEP: u32 = 1 << 31;

/// The globs of one file.
#[derive(Debug)]
pub(super) struct Machine {
    /// By the number of the rule; regular expressions have empty ones.
    globs: Vec<Glob>,
    nodes: Vec<Node>,
    /// Literal segments; an index into it stands for the text.
    texts: Vec<Box<str>>,
    text_ids: HashTable<u32>,
    edges: HashTable<Edge>,
    hasher: foldhash::fast::RandomState,
    /// Of the hashes of edges.
    seed: u64,
    /// The lowest rule wins, not the most literal one.
    ordered: bool,
    /// Nodes on the longest way from the root.
    depth_max: usize,
    has_deep: bool,
}

#[derive(Debug)]
pub(super) struct Node {
    /// By metric type, the first rule that ends here, of those that take any tags.
    pub(super) ends: [u32; 3],
    /// Rules that end here and take some tags only, ascending.
    pub(super) choosy: Vec<(u32, Option<MetricType>)>,
    /// By metric type, the lowest rule here or below.
    lowest: [u32; 3],
    /// Bit `n` is set if a rule ends `n` segments below; the last bit stands for more, too.
    heights: u64,
    has_literals: bool,
    star: u32,
    /// Segments with a star in them, and the nodes behind; in the order of the file.
    pub(super) partials: Vec<(Segment, u32)>,
    /// Rules whose next segment is a `**`, ascending.
    pub(super) deep: Vec<(u32, Option<MetricType>)>,
}

#[derive(Debug)]
struct Edge {
    from: u32,
    text: u32,
    ends: Ends,
    to: u32,
}

/// A segment of a name under look-up.
#[derive(Clone, Copy, Default)]
struct Part {
    from: u32,
    to: u32,
}

/// Length, beginning and end of a text: texts of up to [`ENDS_BYTES`] are told apart by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    length: u32,
    first: u64,
    last: u64,
}

/// As many bytes as both ends have together.
const ENDS_BYTES: u32 = 16;

impl Ends {
    #[inline]
    fn of(bytes: &[u8]) -> Self {
        let (first, last) = match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => match (bytes.first_chunk(), bytes.last_chunk(), bytes) {
                (Some(first), Some(last), _) => {
                    (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)))
                }
                (_, _, [first, .., last]) => {
                    let middle = bytes.get(1).copied().unwrap_or(0);
                    (u64::from(*first) | u64::from(middle) << 8, u64::from(*last))
                }
                (_, _, [only]) => (u64::from(*only), 0),
                _ => (0, 0),
            },
        };
        Self { length: u32::try_from(bytes.len()).unwrap_or(u32::MAX), first, last }
    }

    /// The hash of the edge that leads from a node by this text.
    #[inline]
    fn hash(self, from: u32, seed: u64) -> u64 {
        let one = self.first ^ seed;
        let other = self.last.rotate_left(32) ^ u64::from(from) << 32 ^ u64::from(self.length) ^ !seed;
        let product = u128::from(one) * u128::from(other);
        #[expect(clippy::cast_possible_truncation, reason = "its halves")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        low ^ high
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(true)
    }
}

impl Node {
    fn new() -> Self {
        Self {
            ends: [NONE; 3],
            choosy: Vec::new(),
            lowest: [NONE; 3],
            heights: 0,
            has_literals: false,
            star: NONE,
            partials: Vec::new(),
            deep: Vec::new(),
        }
    }

    pub(super) fn star(&self) -> Option<u32> {
        (self.star != NONE).then_some(self.star)
    }

    fn cover(&mut self, types: &[MetricType], rule: u32, height: Option<usize>) {
        for metric_type in types {
            let lowest = &mut self.lowest[*metric_type as usize];
            *lowest = rule.min(*lowest);
        }
        // How much a `**` will take cannot be known.
        self.heights |= height.map_or(u64::MAX, height_bit);
    }
}

fn height_bit(height: usize) -> u64 {
    1 << height.min(63)
}

impl Machine {
    pub(super) fn new(ordered: bool) -> Self {
        Self {
            globs: Vec::new(),
            nodes: vec![Node::new()],
            texts: Vec::new(),
            text_ids: HashTable::new(),
            edges: HashTable::new(),
            seed: foldhash::fast::RandomState::default().hash_one(NONE),
            hasher: foldhash::fast::RandomState::default(),
            ordered,
            depth_max: 0,
            has_deep: false,
        }
    }

    /// Adds the next rule of the file; one without a glob takes its number and nothing else.
    ///
    /// One that is `choosy` goes by more than name and type; [`Machine::find`] asks for its opinion.
    pub(super) fn add(&mut self, glob: Option<Glob>, metric_type: Option<MetricType>, choosy: bool) {
        let Ok(rule) = u32::try_from(self.globs.len()) else { return };
        if let Some(glob) = &glob {
            self.add_glob(glob, rule, metric_type, choosy);
        }
        self.globs.push(glob.unwrap_or_default());
    }

    fn add_glob(&mut self, glob: &Glob, rule: u32, metric_type: Option<MetricType>, choosy: bool) {
        let types = metric_type.as_ref().map_or(&MetricType::ALL[..], std::slice::from_ref);
        let is_deep = glob.segments.contains(&Segment::Deep);
        let mut node = 0;
        for (depth, segment) in glob.segments.iter().enumerate() {
            let height = (!is_deep).then_some(glob.segments.len() - depth);
            self.nodes[node as usize].cover(types, rule, height);
            if *segment == Segment::Deep {
                self.nodes[node as usize].deep.push((rule, metric_type));
                self.has_deep = true;
                return;
            }
            node = self.child(node, segment);
            self.depth_max = self.depth_max.max(depth + 1);
        }
        let last = &mut self.nodes[node as usize];
        last.cover(types, rule, Some(0));
        if choosy {
            last.choosy.push((rule, metric_type));
            return;
        }
        for metric_type in types {
            let end = &mut last.ends[*metric_type as usize];
            *end = rule.min(*end);
        }
    }

    /// The node behind a segment; made if it is not there.
    fn child(&mut self, node: u32, segment: &Segment) -> u32 {
        let known = match segment {
            Segment::Star | Segment::Deep => self.nodes[node as usize].star,
            Segment::Partial(_) => {
                let partials = &self.nodes[node as usize].partials;
                partials.iter().find(|(other, _)| other == segment).map_or(NONE, |(_, child)| *child)
            }
            Segment::Literal(text) => {
                self.edge(node, Ends::of(text.as_bytes()), text.as_bytes()).unwrap_or(NONE)
            }
        };
        if known != NONE {
            return known;
        }
        // Nodes are fewer than bytes of the file, which is bounded far below.
        let child = u32::try_from(self.nodes.len()).unwrap_or(NONE - 1);
        self.nodes.push(Node::new());
        match segment {
            Segment::Star | Segment::Deep => self.nodes[node as usize].star = child,
            Segment::Partial(_) => self.nodes[node as usize].partials.push((segment.clone(), child)),
            Segment::Literal(text) => {
                let (ends, seed) = (Ends::of(text.as_bytes()), self.seed);
                let text = self.intern(text);
                self.nodes[node as usize].has_literals = true;
                let edge = Edge { from: node, text, ends, to: child };
                self.edges.insert_unique(ends.hash(node, seed), edge, |edge| edge.ends.hash(edge.from, seed));
            }
        }
        child
    }

    fn intern(&mut self, text: &str) -> u32 {
        if let Some(id) = self.text_id(text) {
            return id;
        }
        let id = u32::try_from(self.texts.len()).unwrap_or(NONE - 1);
        self.texts.push(text.into());
        let (hasher, texts) = (&self.hasher, &self.texts);
        self.text_ids.insert_unique(hasher.hash_one(text), id, |id| hasher.hash_one(&*texts[*id as usize]));
        id
    }

    fn text_id(&self, text: &str) -> Option<u32> {
        self.text_ids.find(self.hasher.hash_one(text), |id| *self.texts[*id as usize] == *text).copied()
    }

    /// The node behind a literal segment.
    #[inline]
    fn edge(&self, from: u32, ends: Ends, text: &[u8]) -> Option<u32> {
        let is_wanted = |edge: &Edge| {
            edge.from == from
                && edge.ends == ends
                && (ends.length <= ENDS_BYTES || *self.texts[edge.text as usize].as_bytes() == *text)
        };
        self.edges.find(ends.hash(from, self.seed), is_wanted).map(|edge| edge.to)
    }

    /// Number of the rule that takes the name; `accept` has the last word on each. What its wildcards take
    /// is appended to `captures`.
    pub(super) fn find(
        &self,
        metric_type: MetricType,
        name: &str,
        captures: &mut Captures,
        mut accept: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let of_type = metric_type as usize;
        if self.nodes[0].lowest[of_type] == NONE {
            return None;
        }
        let (mut inline, mut more) = ([Part::default(); SEGMENTS_INLINE], SmallVec::new());
        let count_max = if self.has_deep { usize::MAX } else { self.depth_max };
        let (count, parts) = split(name, self.depth_max, count_max, &mut inline, &mut more)?;
        let mut best = NONE;
        let mut stack: SmallVec<[(u32, u32); STACK_INLINE]> = SmallVec::new();
        // The top of the stack, for mostly there is one way only.
        let mut next = Some((0, 0));
        while let Some((entry, depth)) = next.take().or_else(|| stack.pop()) {
            let node = &self.nodes[(entry & !DEEP) as usize];
            if node.lowest[of_type] >= best {
                continue;
            }
            if entry & DEEP != 0 {
                let start = parts.get(depth as usize).map_or_else(|| after(parts), |part| part.from as usize);
                let place = DeepPlace { depth: depth as usize, start };
                best = best.min(self.find_deep(node, place, metric_type, name, best, &mut accept));
            } else if depth as usize == count {
                best = best.min(node.ends[of_type]);
                best = best.min(find_choosy(node, metric_type, best, &mut accept));
            } else {
                next = self.push_children(node, (entry, depth), count, name, parts, &mut stack);
                continue;
            }
            if best != NONE && !self.ordered {
                break;
            }
        }
        let found = (best != NONE).then_some(best as usize)?;
        self.capture(found, name, parts, captures);
        Some(found)
    }

    /// Returns what fits the next segment and is to be looked at first, and puts on the stack what is to be
    /// looked at after it: what comes last comes first.
    #[inline(always)]
    fn push_children(
        &self,
        node: &Node,
        (at, depth): (u32, u32),
        count: usize,
        name: &str,
        parts: &[Part],
        stack: &mut SmallVec<[(u32, u32); STACK_INLINE]>,
    ) -> Option<(u32, u32)> {
        if node.heights & height_bit(count - depth as usize) == 0 {
            return None;
        }
        let mut top = None;
        let mut push = |entry| {
            if let Some(below) = top.replace(entry) {
                stack.push(below);
            }
        };
        if !node.deep.is_empty() {
            push((at | DEEP, depth));
        }
        let Some(part) = parts.get(depth as usize) else { return top };
        if node.star != NONE {
            push((node.star, depth + 1));
        }
        for (segment, child) in node.partials.iter().rev() {
            if segment.matches(name, part.from as usize, part.to as usize, None) {
                push((*child, depth + 1));
            }
        }
        if node.has_literals {
            let text = name.as_bytes().get(part.from as usize..part.to as usize).unwrap_or_default();
            if let Some(child) = self.edge(at, Ends::of(text), text) {
                push((child, depth + 1));
            }
        }
        top
    }

    /// The first rule of the node whose `**` and what follows it match from the place on, below `best`.
    fn find_deep(
        &self,
        node: &Node,
        place: DeepPlace,
        metric_type: MetricType,
        name: &str,
        best: u32,
        accept: &mut impl FnMut(usize) -> bool,
    ) -> u32 {
        for &(rule, of_type) in node.deep.iter().take_while(|(rule, _)| *rule < best) {
            if of_type.is_some_and(|of_type| of_type != metric_type) {
                continue;
            }
            let segments = self.globs[rule as usize].segments.get(place.depth..).unwrap_or_default();
            if match_segments(segments, name, place.start, None) && accept(rule as usize) {
                return rule;
            }
        }
        NONE
    }

    /// What each wildcard of the rule takes of a name that it matches.
    fn capture(&self, rule: usize, name: &str, parts: &[Part], captures: &mut Captures) {
        let Some(glob) = self.globs.get(rule) else { return };
        let before = captures.len();
        for (at, segment) in glob.segments.iter().enumerate() {
            match (segment, parts.get(at)) {
                (Segment::Literal(_), _) => {}
                (Segment::Star, Some(part)) => captures.push(Some((part.from, part.to))),
                // Here a segment of the glob is not one of the name, or not all of it.
                _ => {
                    captures.truncate(before);
                    glob.capture(name, captures);
                    return;
                }
            }
        }
    }

    /// Of a rule, `None` for a regular expression.
    pub(super) fn glob(&self, rule: usize) -> Option<&Glob> {
        self.globs.get(rule).filter(|glob| !glob.segments.is_empty())
    }

    pub(super) fn ordered(&self) -> bool {
        self.ordered
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Literal ways between nodes, with their text, in the order of the nodes.
    pub(super) fn literal_edges(&self) -> Vec<(u32, &str, u32)> {
        let mut edges: Vec<_> =
            self.edges.iter().map(|edge| (edge.from, &*self.texts[edge.text as usize], edge.to)).collect();
        edges.sort_unstable();
        edges
    }
}

/// Where in a name a `**` begins.
#[derive(Clone, Copy)]
struct DeepPlace {
    /// Segments before it.
    depth: usize,
    /// Bytes before it.
    start: usize,
}

/// The first rule below `best` that ends in the node and is accepted.
fn find_choosy(
    node: &Node,
    metric_type: MetricType,
    best: u32,
    accept: &mut impl FnMut(usize) -> bool,
) -> u32 {
    let below = node.choosy.iter().take_while(|(rule, _)| *rule < best);
    let mut of_type = below.filter(|(_, of_type)| of_type.is_none_or(|of_type| of_type == metric_type));
    of_type.find(|(rule, _)| accept(*rule as usize)).map_or(NONE, |(rule, _)| *rule)
}

/// How many segments the name has, and the first of them, up to `depth_max`; `None` if it has more than
/// `count_max`. They lie in `inline`, or in `more` if they do not fit.
#[inline]
fn split<'a>(
    name: &str,
    depth_max: usize,
    count_max: usize,
    inline: &'a mut [Part; SEGMENTS_INLINE],
    more: &'a mut SmallVec<[Part; SEGMENTS_INLINE]>,
) -> Option<(usize, &'a [Part])> {
    let bytes = name.as_bytes();
    let Some(mut dots) =
        scan::block_dots(bytes).filter(|dots| (dots.count_ones() as usize) < SEGMENTS_INLINE)
    else {
        return split_apart(bytes, depth_max, count_max, more);
    };
    let count = dots.count_ones() as usize + 1;
    if count > count_max {
        return None;
    }
    let (mut from, end) = (0, u32::try_from(bytes.len()).ok()?);
    for part in inline.iter_mut().take(count) {
        // The last one has none behind it.
        let to = dots.trailing_zeros().min(end);
        *part = Part { from, to };
        from = to + 1;
        dots &= dots.wrapping_sub(1);
    }
    Some((count, inline.get(..count.min(depth_max))?))
}

/// The same of names that are long, short or of many segments.
#[inline(never)]
fn split_apart<'a>(
    bytes: &[u8],
    depth_max: usize,
    count_max: usize,
    parts: &'a mut SmallVec<[Part; SEGMENTS_INLINE]>,
) -> Option<(usize, &'a [Part])> {
    let (mut count, mut from) = (0, 0);
    // Names are shorter than 4 GiB: a datagram is.
    let place = |at: usize| u32::try_from(at).unwrap_or(NONE - 1);
    for to in memchr::memchr_iter(b'.', bytes).chain([bytes.len()]).map(place) {
        if count < depth_max {
            parts.push(Part { from, to });
        }
        count += 1;
        from = to + 1;
    }
    (count <= count_max).then_some((count, parts))
}

/// Where the segment after the split ones begins.
fn after(parts: &[Part]) -> usize {
    parts.last().map_or(0, |part| part.to as usize + 1)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
