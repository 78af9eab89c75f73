//! Chance -> payloads that come near everything that the grammar treats apart.

use proptest::prelude::*;

/// Lines of which a test promotes some. Two are one identity but for a byte, two share a head.
pub(super) const POOL: [&str; 12] = [
    "airflow.ti_successes:1|c",
    "airflow.ti_successez:1|c",
    "airflow.ti_successes:1|c|@0.5",
    "airflow.scheduler_heartbeat:1|c",
    "airflow.ti.finish.etl.load.success:1|c",
    "airflow.ti.finish:1|c|#dag_id:etl,task_id:load,state:success",
    "a:1|c",
    "a:1|g",
    "abcdefg:1|c",
    "abcdefgh:1|c",
    "airflow.dagrun.duration.success.etl:1|ms|@0.1|#team:data",
    "x.y|z:1|c:2|c",
];

/// How many cases a property gets; `PROPTEST_CASES` where that is emulated or has much time.
pub(super) fn config(cases: u32) -> ProptestConfig {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: wanted.unwrap_or(cases), failure_persistence: None, ..ProptestConfig::default() }
}

/// A text where a value stands: mostly digits, also everything that nearly is.
pub(super) fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[0-9]{1,3}",
        2 => "[0-9]{7,10}",
        2 => "[0-9]{14,17}",
        1 => "0{10,14}[0-9]",
        1 => (u64::from(u32::MAX) - 2..u64::from(u32::MAX) + 3).prop_map(|value| value.to_string()),
        1 => "[+-][0-9]{1,3}",
        1 => "[0-9]{1,3}\\.[0-9]{0,6}",
        1 => "[0-9.+e:x_ -]{0,9}",
    ]
}

/// A line of the pool with any value.
fn pool_line() -> impl Strategy<Value = Vec<u8>> {
    (0..POOL.len(), value())
        .prop_map(|(index, value)| POOL[index].replacen(":1|", &format!(":{value}|"), 1).into_bytes())
}

/// A line of the pool with a value that a slot takes.
fn plain_line() -> impl Strategy<Value = Vec<u8>> {
    (0..POOL.len(), "[0-9]{1,9}")
        .prop_map(|(index, value)| POOL[index].replacen(":1|", &format!(":{value}|"), 1).into_bytes())
}

/// Anything that has the form of a line, up to identities that are too long for the table.
fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![6 => "[a-c._|#;,=\\[\\] ~-]{0,20}", 1 => "[a-c.]{225,260}"];
    let tail = prop_oneof![
        3 => Just("|c".to_owned()),
        3 => "\\|(c|g|ms|h|d|s)(\\|@(0\\.5|1|x|0\\.1))?(\\|#[a-c:,=]{0,12})?",
        1 => "[|cgms@#:,. 0-9]{0,20}",
        1 => "\\|c\\|#[a-c:,]{225,260}",
    ];
    (head, value(), tail).prop_map(|(head, value, tail)| format!("{head}:{value}{tail}").into_bytes())
}

/// One line, without `\n` except where a byte was spoilt into one.
pub(super) fn line() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![6 => pool_line(), 3 => any_line(), 1 => Just(Vec::new())];
    let byte = prop_oneof![3 => prop::sample::select(b"\0\r\n\t\x1f\x20\x7e\x7f\x80\xff:|".to_vec()), 1 => any::<u8>()];
    (line, any::<prop::sample::Index>(), byte, prop::bool::weighted(0.1)).prop_map(
        |(mut line, at, byte, spoil)| {
            if spoil && !line.is_empty() {
                let at = at.index(line.len());
                line[at] = byte;
            }
            line
        },
    )
}

/// One payload that a frame can carry: hot through and through where all of the pool is, or a mix.
pub(super) fn payload() -> impl Strategy<Value = Vec<u8>> {
    let lines = prop_oneof![
        4 => prop::collection::vec(plain_line(), 1..40),
        4 => prop::collection::vec(plain_line(), 1..4),
        4 => prop::collection::vec(line(), 0..6),
        2 => prop::collection::vec(line(), 0..40),
    ];
    let joined = (lines, prop::bool::weighted(0.3)).prop_map(|(lines, newline)| {
        let mut payload = lines.join(&b'\n');
        if newline {
            payload.push(b'\n');
        }
        payload
    });
    let bytes = prop::collection::vec(any::<u8>(), 0..1473);
    prop_oneof![20 => joined, 1 => bytes].prop_map(|mut payload| {
        payload.truncate(1472);
        payload
    })
}

/// Which lines of the pool are promoted.
pub(super) fn promoted() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        3 => Just((0..POOL.len()).collect::<Vec<_>>()),
        2 => prop::sample::subsequence((0..POOL.len()).collect::<Vec<_>>(), 0..=POOL.len()),
    ]
}
