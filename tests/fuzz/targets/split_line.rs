//! Any bytes -> lines -> head, value and tail: nothing lost, nothing moved, and no split inside of
//! what the grammar calls a value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rotameter::line;

fuzz_target!(|payload: &[u8]| {
    let lines: Vec<&[u8]> = line::lines(payload).collect();
    assert_eq!(lines.join(&b'\n'), payload);
    for line in lines {
        let Some((head, value, tail)) = line::split_value(line) else { continue };
        assert_eq!([head, b":", value, tail].concat(), line);
        assert!(!head.contains(&b':'));
        assert!(!value.contains(&b':') && !value.contains(&b'|'));
        assert_eq!(tail.first(), Some(&b'|'));
    }
});
