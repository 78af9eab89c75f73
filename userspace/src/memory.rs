//! Lists that grow -> room for them.

/// A list of so many bytes has earned all the addresses that it may ever need.
const GROWN_BYTES: usize = 128 << 10;
/// A longer list than this is copied now and then after all.
const RESERVED_BYTES_MAX: usize = 256 << 20;

/// Makes room for one more item in a list that grows to `items_max` at most, or beyond it seldom.
///
/// A list that doubles is copied into fresh memory again and again, and each page of that is a fault. Past a
/// first size it is given the addresses for all of it instead: what is not touched takes no memory.
#[inline]
pub(crate) fn reserve_one<T>(list: &mut Vec<T>, items_max: usize) {
    if list.len() == list.capacity() {
        reserve_all(list, items_max);
    }
}

#[cold]
#[inline(never)]
fn reserve_all<T>(list: &mut Vec<T>, items_max: usize) {
    let item_bytes = size_of::<T>().max(1);
    let more = items_max.min(RESERVED_BYTES_MAX / item_bytes).saturating_sub(list.len());
    // Where addresses are rationed the list doubles as ever.
    if list.len() * item_bytes < GROWN_BYTES || more == 0 || list.try_reserve_exact(more).is_err() {
        list.reserve(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_moves_once_and_a_short_one_takes_little() {
        let (mut list, mut moves) = (Vec::new(), 0);
        for n in 0..1_000_000_u64 {
            let before = list.capacity();
            reserve_one(&mut list, 600_000);
            if list.capacity() != before {
                moves += 1;
            }
            if n < 1000 {
                assert!(list.capacity() <= 2000);
            }
            list.push(n);
            // Full of what it was meant for, and beyond that it doubles.
            assert!(list.len() <= 600_000 || list.capacity() <= 1_200_000);
        }
        assert!((10..=16).contains(&moves), "{moves}");
    }

    #[test]
    fn addresses_are_asked_for_within_reason() {
        let mut list = vec![0_u8; GROWN_BYTES];
        list.shrink_to_fit();
        reserve_one(&mut list, usize::MAX);
        assert!(list.capacity() <= RESERVED_BYTES_MAX + GROWN_BYTES);
        reserve_one(&mut Vec::<()>::new(), 0);
    }
}
