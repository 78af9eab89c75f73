//! `Authorization` -> whether it names a user and its password.
//!
//! bcrypt is slow on purpose, so each outcome is remembered, in bounded tables, and a stream of wrong
//! passwords gets a quarter of one core at most. Whoever has logged in before does not notice it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use ring::hmac;
use tokio::sync::Semaphore;

/// Passwords checked at a time.
const CHECKS_MAX: usize = 1;
/// Requests that wait for that; one more is told to come back later.
const WAITING_MAX: usize = 32;
/// After a wrong password, the next check waits this many times as long as that one took.
const REST: u32 = 3;
const REMEMBERED_GOOD_MAX: usize = 1024;
const REMEMBERED_BAD_MAX: usize = 1024;

/// What became of a request's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    Bad,
    /// Too many others wait to be checked.
    Busy,
}

/// Checks credentials, and remembers what came of it.
pub(super) struct Credentials {
    /// Made anew by each process: nobody outside can tell where a tag lies in the tables.
    key: hmac::Key,
    remembered: Mutex<Remembered>,
    checks: Semaphore,
    waiting: Semaphore,
}

#[derive(Default)]
struct Remembered {
    good: Recent,
    bad: Recent,
}

/// The latest tags; the oldest makes room.
#[derive(Default)]
struct Recent {
    tags: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Recent {
    fn insert(&mut self, tag: [u8; 32], max: usize) {
        if self.tags.insert(tag) {
            self.order.push_back(tag);
            if self.order.len() > max
                && let Some(oldest) = self.order.pop_front()
            {
                self.tags.remove(&oldest);
            }
        }
    }
}

impl Credentials {
    pub(super) fn new() -> Arc<Self> {
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random);
        Arc::new(Self {
            key: key.expect("every kernel that we run on has random bytes"),
            remembered: Mutex::new(Remembered::default()),
            checks: Semaphore::new(CHECKS_MAX),
            waiting: Semaphore::new(WAITING_MAX),
        })
    }

    /// Looks the header up among `users`, of whom there is at least one.
    pub(super) async fn check(
        self: &Arc<Self>,
        users: &[(String, String)],
        header: Option<&HeaderValue>,
    ) -> Outcome {
        let Some((name, password)) = header.and_then(basic) else { return Outcome::Bad };
        let user = users.iter().find(|(user, _)| user.as_bytes() == name);
        // A name that is not there takes as long as one that is.
        let Some((_, hash)) = user.or_else(|| users.first()) else { return Outcome::Bad };
        let known = user.is_some();
        let tag = self.tag(&name, hash, &password);
        if let Some(outcome) = self.recall(&tag) {
            return outcome;
        }
        // The check goes on also if the client does not wait for it, and keeps its place until it ends.
        let (this, hash) = (Arc::clone(self), hash.clone());
        let checked = tokio::spawn(async move { this.check_slowly(tag, known, password, hash).await });
        checked.await.unwrap_or(Outcome::Bad)
    }

    async fn check_slowly(
        self: Arc<Self>,
        tag: [u8; 32],
        known: bool,
        password: Vec<u8>,
        hash: String,
    ) -> Outcome {
        let Ok(_waiting) = self.waiting.try_acquire() else { return Outcome::Busy };
        let Ok(checking) = self.checks.acquire().await else { return Outcome::Busy };
        // Somebody before us may have come with the same.
        if let Some(outcome) = self.recall(&tag) {
            return outcome;
        }
        let begun = Instant::now();
        let verified = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash)).await;
        let took = begun.elapsed();
        let good = known && matches!(verified, Ok(Ok(true)));
        let mut remembered = self.remembered.lock();
        if good {
            remembered.good.insert(tag, REMEMBERED_GOOD_MAX);
            return Outcome::Good;
        }
        remembered.bad.insert(tag, REMEMBERED_BAD_MAX);
        drop(remembered);
        checking.forget();
        let this = Arc::clone(&self);
        tokio::spawn(async move {
            tokio::time::sleep(took * REST).await;
            this.checks.add_permits(1);
        });
        Outcome::Bad
    }

    fn recall(&self, tag: &[u8; 32]) -> Option<Outcome> {
        let remembered = self.remembered.lock();
        if remembered.good.tags.contains(tag) {
            return Some(Outcome::Good);
        }
        remembered.bad.tags.contains(tag).then_some(Outcome::Bad)
    }

    /// Stands for the three without giving them away. A user with another hash has other tags.
    fn tag(&self, name: &[u8], hash: &str, password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name, hash.as_bytes(), password] {
            context.update(&(part.len() as u64).to_ne_bytes());
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

/// User and password of a `Basic` header.
fn basic(header: &HeaderValue) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, encoded) = header.as_bytes().split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut name = BASE64_STANDARD.decode(encoded).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon + 1);
    name.truncate(colon);
    Some((name, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cheapest hash there is.
    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    fn header(text: &str) -> HeaderValue {
        HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(text))).unwrap()
    }

    #[tokio::test]
    async fn name_and_password_must_both_be_right() {
        let credentials = Credentials::new();
        let users = [("a".to_owned(), hash("one")), ("b".to_owned(), hash("t:wo"))];
        // Twice, for the second time is answered from memory.
        for _ in 0..2 {
            for (text, outcome) in [
                ("a:one", Outcome::Good),
                ("b:t:wo", Outcome::Good),
                ("a:t:wo", Outcome::Bad),
                ("a:", Outcome::Bad),
                ("c:one", Outcome::Bad),
                (":one", Outcome::Bad),
                ("a:one\0", Outcome::Bad),
                ("a", Outcome::Bad),
            ] {
                assert_eq!(credentials.check(&users, Some(&header(text))).await, outcome, "{text:?}");
            }
        }
        assert_eq!(credentials.check(&users, None).await, Outcome::Bad);
        for text in ["Bearer YTpvbmU=", "Basic", "Basic !", "Basic YTpvbmU", ""] {
            let header = HeaderValue::from_str(text).unwrap();
            assert_eq!(credentials.check(&users, Some(&header)).await, Outcome::Bad, "{text}");
        }
        let header = HeaderValue::from_static("basic YTpvbmU=");
        assert_eq!(credentials.check(&users, Some(&header)).await, Outcome::Good);
    }

    #[tokio::test]
    async fn a_new_hash_makes_the_old_password_worthless() {
        let credentials = Credentials::new();
        let header = header("a:one");
        let users = |password: &str| [("a".to_owned(), hash(password))];
        assert_eq!(credentials.check(&users("one"), Some(&header)).await, Outcome::Good);
        assert_eq!(credentials.check(&users("two"), Some(&header)).await, Outcome::Bad);
    }

    #[tokio::test]
    async fn a_flood_of_wrong_passwords_waits_in_a_short_queue_and_locks_nobody_out() {
        let credentials = Credentials::new();
        let users = Arc::new([("a".to_owned(), hash("one"))]);
        assert_eq!(credentials.check(&*users, Some(&header("a:one"))).await, Outcome::Good);
        let mut flood = tokio::task::JoinSet::new();
        for wrong in 0..500 {
            let (credentials, users) = (Arc::clone(&credentials), Arc::clone(&users));
            flood
                .spawn(async move { credentials.check(&*users, Some(&header(&format!("a:{wrong}")))).await });
        }
        assert_eq!(credentials.check(&*users, Some(&header("a:one"))).await, Outcome::Good);
        let (mut bad, mut busy) = (0, 0);
        while let Some(outcome) = flood.join_next().await {
            match outcome.unwrap() {
                Outcome::Bad => bad += 1,
                Outcome::Busy => busy += 1,
                Outcome::Good => panic!("a wrong password was taken"),
            }
        }
        assert!(bad >= WAITING_MAX && busy >= 400, "{bad} bad, {busy} busy");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut recent = Recent::default();
        for n in 0..100_u8 {
            recent.insert([n; 32], 10);
        }
        assert_eq!((recent.tags.len(), recent.order.len()), (10, 10));
        assert!(recent.tags.contains(&[99; 32]) && !recent.tags.contains(&[89; 32]));
    }
}
