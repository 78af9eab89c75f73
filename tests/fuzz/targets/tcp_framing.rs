//! Any bytes, cut anywhere -> the framing of streams: the lines are those of the uncut stream, and
//! none is longer than allowed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rotameter::listener::framing::{Framing, LINE_BYTES_MAX};

/// Bytes of the input that say how it is cut.
const CUT_BYTES: usize = 8;

/// Lines and the number of those that were too long.
type Framed = (Vec<Vec<u8>>, u64);

/// What the framing makes of the stream, read in chunks of these sizes, over and over.
fn framed(stream: &[u8], sizes: &[usize]) -> Framed {
    let (mut framing, mut framed) = (Framing::default(), Framed::default());
    let (mut rest, mut sizes) = (stream, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
        let (chunk, after) = rest.split_at(size);
        rest = after;
        let mut buffer = vec![0; LINE_BYTES_MAX + chunk.len()];
        let begun = framing.resume(&mut buffer);
        assert!(begun < LINE_BYTES_MAX);
        let end = begun + chunk.len();
        buffer[begun..end].copy_from_slice(chunk);
        let found = framing.frame(&mut buffer[..end]);
        let lines = found.lines.into_iter().flat_map(|lines| lines.split(|byte| *byte == b'\n'));
        framed.0.extend(lines.map(<[u8]>::to_vec));
        framed.1 += found.too_long;
    }
    framed.0.extend(framing.finish());
    framed
}

/// The same by the rule alone.
fn expected(stream: &[u8]) -> Framed {
    let mut framed = Framed::default();
    for piece in stream.split_inclusive(|byte| *byte == b'\n') {
        let line = piece.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let fits = if line.is_some() { piece.len() <= LINE_BYTES_MAX } else { piece.len() < LINE_BYTES_MAX };
        if fits {
            framed.0.push(line.unwrap_or(piece).to_vec());
        } else {
            framed.1 += 1;
        }
    }
    framed
}

fuzz_target!(|input: &[u8]| {
    let (cuts, stream) = input.split_at(input.len().min(CUT_BYTES));
    // Both small chunks and some around the longest line.
    let sizes: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) * usize::from(*cut) / 8).collect();
    let expected = expected(stream);
    assert_eq!(framed(stream, &[stream.len()]), expected);
    assert_eq!(framed(stream, &sizes), expected);
    // Lines that are too long are rare in what a fuzzer makes up, so each input is stretched once.
    let stretched: Vec<u8> = stream
        .iter()
        .flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b'x' { 1365 } else { 1 }))
        .collect();
    if stretched.len() < 1 << 20 {
        assert_eq!(framed(&stretched, &sizes), self::expected(&stretched));
    }
});
