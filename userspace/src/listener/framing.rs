//! Chunks of a stream -> complete lines.

use memchr::memchr;

/// Bytes of a line with its terminator (`\n` or `\r\n`). `statsd_exporter` has the same bound, but
/// gives the connection up where we skip the line.
pub const LINE_BYTES_MAX: usize = 4096;

/// What is left of a stream between two reads: the beginning of a line, or its end if it is skipped.
#[derive(Debug, Default)]
pub struct Framing {
    /// Shorter than [`LINE_BYTES_MAX`], without a `\n`; empty while skipping.
    begun: Vec<u8>,
    /// The line was too long, and counted; it goes on to its `\n`.
    skipping: bool,
}

/// What a chunk completed.
#[derive(Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The complete lines, joined by `\n`, with no terminator behind the last; `None` where no line
    /// ended, while `Some` of nothing is one empty line.
    pub lines: Option<&'a [u8]>,
    /// Lines that were found to be longer than allowed; they are not among `lines`.
    pub too_long: u64,
}

impl Framing {
    /// Puts the begun line at the start of `buffer`, for the next chunk to be read behind it; returns
    /// its length. `buffer` has room for [`LINE_BYTES_MAX`] bytes and a chunk.
    pub fn resume(&self, buffer: &mut [u8]) -> usize {
        let length = self.begun.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.begun[..length]);
        length
    }

    /// Splits the begun line with the chunk behind it, as [`Framing::resume`] laid it out.
    pub fn frame<'a>(&mut self, bytes: &'a mut [u8]) -> Framed<'a> {
        let (mut lines, mut too_long) = (0_usize, 0);
        // Lines move to the left, over the `\r` that go, so that they stay in one piece.
        let (mut read, mut written) = (0, 0);
        while let Some(length) = memchr(b'\n', &bytes[read..]) {
            let (start, end) = (read, read + length);
            read = end + 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if length + 1 > LINE_BYTES_MAX {
                too_long += 1;
                continue;
            }
            let line_end = if bytes[start..end].ends_with(b"\r") { end - 1 } else { end };
            if lines > 0 {
                bytes[written] = b'\n';
                written += 1;
            }
            if written != start {
                bytes.copy_within(start..line_end, written);
            }
            written += line_end - start;
            lines += 1;
        }
        let rest = &bytes[read..];
        if !self.skipping && rest.len() >= LINE_BYTES_MAX {
            self.skipping = true;
            too_long += 1;
        }
        if self.skipping || rest.is_empty() {
            // Idle connections hold no memory.
            self.begun = Vec::new();
        } else {
            self.begun.clear();
            self.begun.extend_from_slice(rest);
        }
        Framed { lines: (lines > 0).then(|| &bytes[..written]), too_long }
    }

    /// The line that the end of the stream cut short, if there is one. A `\r` stays with it.
    #[must_use]
    pub fn finish(self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then_some(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of a stream that comes in these chunks, and how many were too long.
    fn lines<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, u64) {
        let mut framing = Framing::default();
        let (mut lines, mut too_long) = (Vec::new(), 0);
        for chunk in chunks {
            let mut buffer = vec![0; LINE_BYTES_MAX + chunk.len()];
            let begun = framing.resume(&mut buffer);
            buffer[begun..begun + chunk.len()].copy_from_slice(chunk);
            let framed = framing.frame(&mut buffer[..begun + chunk.len()]);
            lines.extend(framed.lines.into_iter().flat_map(|l| l.split(|b| *b == b'\n')).map(<[u8]>::to_vec));
            too_long += framed.too_long;
        }
        lines.extend(framing.finish());
        (lines, too_long)
    }

    /// The same by the rule alone: split at `\n`, judge each line by its length.
    fn expected(stream: &[u8]) -> (Vec<Vec<u8>>, u64) {
        let mut pieces: Vec<&[u8]> = stream.split(|b| *b == b'\n').collect();
        let last = pieces.pop().unwrap_or_default();
        let (mut lines, mut too_long) = (Vec::new(), 0);
        for piece in pieces {
            if piece.len() < LINE_BYTES_MAX {
                lines.push(piece.strip_suffix(b"\r").unwrap_or(piece).to_vec());
            } else {
                too_long += 1;
            }
        }
        match last.len() {
            0 => {}
            1..LINE_BYTES_MAX => lines.push(last.to_vec()),
            LINE_BYTES_MAX.. => too_long += 1,
        }
        (lines, too_long)
    }

    #[track_caller]
    fn check(stream: &[u8], expected: &[&[u8]], too_long: u64) {
        let whole = lines([stream]);
        assert_eq!(whole.0, expected);
        assert_eq!(whole.1, too_long);
        assert_eq!(lines(stream.chunks(1)), whole, "byte by byte");
    }

    #[test]
    fn lines_end_with_newline_or_with_carriage_return_and_newline() {
        check(b"a:1|c\nb:2|c\r\nc:3|c\n", &[b"a:1|c", b"b:2|c", b"c:3|c"], 0);
        check(b"a\r\n\r\nb\n", &[b"a", b"", b"b"], 0);
        check(b"a\rb\r\r\nc", &[b"a\rb\r", b"c"], 0);
    }

    #[test]
    fn empty_lines_are_lines_and_an_empty_end_is_none() {
        check(b"", &[], 0);
        check(b"\n", &[b""], 0);
        check(b"\n\na\n", &[b"", b"", b"a"], 0);
    }

    #[test]
    fn a_half_line_counts_when_the_stream_ends_and_keeps_its_carriage_return() {
        check(b"a:1|c\nb:2|c", &[b"a:1|c", b"b:2|c"], 0);
        check(b"a:1|c\r", &[b"a:1|c\r"], 0);
    }

    #[test]
    fn a_line_has_4096_bytes_with_its_terminator_and_no_more() {
        let run = |n: usize, end: &str| [b"x".repeat(n).as_slice(), end.as_bytes()].concat();
        check(&run(4095, "\n"), &[&run(4095, "")], 0);
        check(&run(4095, ""), &[&run(4095, "")], 0);
        check(&run(4094, "\r\n"), &[&run(4094, "")], 0);
        check(&run(4095, "\r\n"), &[], 1);
        check(&run(4096, "\n"), &[], 1);
        check(&run(4096, ""), &[], 1);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_stream_goes_on() {
        let long = b"x".repeat(5000);
        check(&[b"a\n", long.as_slice(), b"\nb\n", &long, b"\r\n\nc"].concat(), &[b"a", b"b", b"", b"c"], 2);
        check(&[long.repeat(30).as_slice(), b"\nb"].concat(), &[b"b"], 1);
    }

    #[test]
    fn a_skipped_line_and_an_idle_stream_hold_no_memory() {
        let mut framing = Framing::default();
        framing.frame(&mut b"x".repeat(LINE_BYTES_MAX));
        assert_eq!(framing.begun.capacity(), 0);
        framing.frame(&mut b"x\n".to_vec());
        assert_eq!(framing.begun.capacity(), 0);
    }

    fn cut_anywhere(stream: &[u8], cuts: &[prop::sample::Index]) -> (Vec<Vec<u8>>, u64) {
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        lines(cuts.windows(2).map(|w| &stream[w[0]..w[1]]))
    }

    proptest! {
        #[test]
        fn a_stream_gives_the_same_lines_wherever_it_is_cut(
            pieces in prop::collection::vec(
                prop_oneof![
                    4 => "[a-z:|]{0,9}".prop_map(String::into_bytes),
                    4 => Just(b"\n".to_vec()),
                    2 => Just(b"\r\n".to_vec()),
                    1 => Just(b"\r".to_vec()),
                    1 => (4090_usize..4100).prop_map(|n| vec![b'x'; n]),
                ],
                0..40,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let stream = pieces.concat();
            prop_assert_eq!(cut_anywhere(&stream, &cuts), expected(&stream));
        }

        #[test]
        fn any_bytes_give_the_same_lines_wherever_they_are_cut(
            stream in prop::collection::vec(any::<u8>(), 0..2000),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            prop_assert_eq!(cut_anywhere(&stream, &cuts), expected(&stream));
        }
    }
}
