//! Line without its value -> what is kept of it, in one place where it fits.
//!
//! It is compared with each line that may be the same, so what nearly every line has lies beside what is
//! asked of it next: a text behind a pointer would be one more thing to wait for.

use super::line_key::Shape;
use crate::line::block::BLOCK_BYTES;

/// A tail that is not longer is kept as it is, and told apart from others by its word alone.
pub(super) const SHORT_TAIL_BYTES: usize = 8;

/// Head and tail of a line that is remembered.
#[derive(Debug)]
#[repr(C)]
pub(super) struct LineText {
    /// The head, and zeros behind it, if both fit.
    head: [u8; BLOCK_BYTES],
    tail: [u8; SHORT_TAIL_BYTES],
    /// One behind the other, if they do not.
    longer: Box<[u8]>,
}

impl LineText {
    pub(super) fn new(head: &[u8], tail: &[u8]) -> Self {
        let mut text = Self { head: [0; BLOCK_BYTES], tail: [0; SHORT_TAIL_BYTES], longer: Box::default() };
        match (text.head.get_mut(..head.len()), text.tail.get_mut(..tail.len())) {
            (Some(head_place), Some(tail_place)) => {
                head_place.copy_from_slice(head);
                tail_place.copy_from_slice(tail);
            }
            _ => text.longer = [head, tail].concat().into_boxed_slice(),
        }
        text
    }

    /// The head of a line of which both fit, with this many bytes.
    #[inline(always)]
    pub(super) fn short_head(&self, bytes: usize) -> &[u8] {
        self.head.get(..bytes).unwrap_or_default()
    }

    /// Both, of the lengths that `shape` says.
    #[inline(always)]
    pub(super) fn parts(&self, shape: Shape) -> (&[u8], &[u8]) {
        match (self.head.get(..shape.head_bytes()), self.tail.get(..shape.tail_bytes())) {
            (Some(head), Some(tail)) => (head, tail),
            _ => self.longer.split_at_checked(shape.head_bytes()).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::SenderId;

    #[test]
    fn texts_of_all_lengths_are_kept() {
        for head in [0, 1, 63, 64, 65, 128, 2000] {
            for tail in [2, 7, 8, 9, 40] {
                let (head, tail) = (vec![b'h'; head], vec![b't'; tail]);
                let text = LineText::new(&head, &tail);
                let shape = Shape::new(&head, &tail, SenderId::UNKNOWN);
                assert_eq!(text.parts(shape), (&*head, &*tail));
                let fits = head.len() <= 64 && tail.len() <= 8;
                assert_eq!(text.longer.is_empty(), fits, "{} {}", head.len(), tail.len());
            }
        }
    }
}
