//! Chunks of a stream -> complete lines.

use memchr::memchr;

/// Bytes of a line with its terminator (`\n` or `\r\n`); `statsd_exporter` reads into a buffer of
/// this size and gives the connection up when a line does not fit.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// What is left of a stream between two reads: the beginning of a line.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// Shorter than [`LINE_BYTES_MAX`], without a `\n`.
    begun: Vec<u8>,
}

/// What a chunk completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    /// The complete lines, joined by `\n`, with no terminator behind the last; `None` where no line
    /// ended, while `Some` of nothing is one empty line.
    pub(super) lines: Option<&'a [u8]>,
    /// A line was longer than allowed; the stream is useless from there on.
    pub(super) too_long: bool,
}

impl Framing {
    /// Puts the begun line at the start of `buffer`, for the next chunk to be read behind it; returns
    /// its length.
    pub(super) fn resume(&self, buffer: &mut [u8]) -> usize {
        let length = self.begun.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.begun[..length]);
        length
    }

    /// Splits the begun line with the chunk behind it, as [`Framing::resume`] laid it out.
    pub(super) fn frame<'a>(&mut self, bytes: &'a mut [u8]) -> Framed<'a> {
        let mut lines = 0_usize;
        let mut too_long = false;
        // Lines move to the left, over the `\r` that go, so that they stay in one piece.
        let (mut read, mut written) = (0, 0);
        while let Some(length) = memchr(b'\n', &bytes[read..]) {
            if length + 1 > LINE_BYTES_MAX {
                too_long = true;
                break;
            }
            let end = read + length;
            let line_end = if bytes[read..end].ends_with(b"\r") { end - 1 } else { end };
            if lines > 0 {
                bytes[written] = b'\n';
                written += 1;
            }
            if written != read {
                bytes.copy_within(read..line_end, written);
            }
            written += line_end - read;
            lines += 1;
            read = end + 1;
        }
        too_long |= bytes.len() - read >= LINE_BYTES_MAX;
        if too_long || read == bytes.len() {
            // Idle connections hold no memory.
            self.begun = Vec::new();
        } else {
            self.begun.clear();
            self.begun.extend_from_slice(&bytes[read..]);
        }
        Framed { lines: (lines > 0).then(|| &bytes[..written]), too_long }
    }

    /// The line that the end of the stream cut short, if there is one. A `\r` stays with it.
    pub(super) fn finish(self) -> Option<Vec<u8>> {
        (!self.begun.is_empty()).then_some(self.begun)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of a stream that comes in these chunks, and whether it was given up.
    fn lines<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
        let mut framing = Framing::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            let mut buffer = vec![0; LINE_BYTES_MAX + chunk.len()];
            let begun = framing.resume(&mut buffer);
            buffer[begun..begun + chunk.len()].copy_from_slice(chunk);
            let framed = framing.frame(&mut buffer[..begun + chunk.len()]);
            lines.extend(framed.lines.into_iter().flat_map(|l| l.split(|b| *b == b'\n')).map(<[u8]>::to_vec));
            if framed.too_long {
                return (lines, true);
            }
        }
        lines.extend(framing.finish());
        (lines, false)
    }

    #[track_caller]
    fn check(stream: &[u8], expected: &[&[u8]], too_long: bool) {
        let whole = lines([stream]);
        assert_eq!(whole.0, expected);
        assert_eq!(whole.1, too_long);
        assert_eq!(lines(stream.chunks(1)), whole, "byte by byte");
    }

    #[test]
    fn lines_end_with_newline_or_with_carriage_return_and_newline() {
        check(b"a:1|c\nb:2|c\r\nc:3|c\n", &[b"a:1|c", b"b:2|c", b"c:3|c"], false);
        check(b"a\r\n\r\nb\n", &[b"a", b"", b"b"], false);
        check(b"a\rb\r\r\nc", &[b"a\rb\r", b"c"], false);
    }

    #[test]
    fn empty_lines_are_lines_and_an_empty_end_is_none() {
        check(b"", &[], false);
        check(b"\n", &[b""], false);
        check(b"\n\na\n", &[b"", b"", b"a"], false);
    }

    #[test]
    fn a_half_line_counts_when_the_stream_ends_and_keeps_its_carriage_return() {
        check(b"a:1|c\nb:2|c", &[b"a:1|c", b"b:2|c"], false);
        check(b"a:1|c\r", &[b"a:1|c\r"], false);
    }

    #[test]
    fn a_line_has_4096_bytes_with_its_terminator_and_no_more() {
        let run = |n: usize, end: &str| [b"x".repeat(n).as_slice(), end.as_bytes()].concat();
        check(&run(4095, "\n"), &[&run(4095, "")], false);
        check(&run(4095, ""), &[&run(4095, "")], false);
        check(&run(4094, "\r\n"), &[&run(4094, "")], false);
        check(&run(4095, "\r\n"), &[], true);
        check(&run(4096, "\n"), &[], true);
        check(&run(4096, ""), &[], true);
        check(&[b"a\n", run(5000, "\nb\n").as_slice()].concat(), &[b"a"], true);
    }

    proptest! {
        #[test]
        fn any_chunking_of_the_same_bytes_gives_the_same_lines(
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
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks = cuts.windows(2).map(|w| &stream[w[0]..w[1]]);
            prop_assert_eq!(lines(chunks), lines([stream.as_slice()]));
        }
    }
}
