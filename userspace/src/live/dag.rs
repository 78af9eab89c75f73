//! Line of Airflow's -> the DAG that it is about.

use memchr::memmem;

/// Segments that may stand before the ones that say what a name means: the prefix.
const PREFIX_SEGMENTS_MAX: usize = 2;
/// The tag that names the DAG.
const TAG: &[u8] = b"dag_id";

/// The DAG's id, from the tag `dag_id` in any dialect, or else by the shape of the name. Of two ids
/// side by side, a DAG's and a task's, the first segment is taken for the DAG's: the name does not say
/// where an id with dots ends.
#[must_use]
pub fn dag_of(line: &[u8]) -> Option<&[u8]> {
    by_tag(line).or_else(|| by_name(line))
}

fn by_tag(line: &[u8]) -> Option<&[u8]> {
    for at in memmem::find_iter(line, TAG) {
        let begins = at.checked_sub(1).and_then(|before| line.get(before));
        let begins = begins.is_some_and(|byte| b"#,;[ ".contains(byte));
        let Some((sign, value)) = line.get(at + TAG.len()..).and_then(<[u8]>::split_first) else { continue };
        let ends: &[u8] = match sign {
            b'=' => b",;]:|",
            b':' => b",|",
            _ => continue,
        };
        let end = value.iter().position(|byte| ends.contains(byte)).unwrap_or(value.len());
        if begins && end > 0 {
            return value.get(..end);
        }
    }
    None
}

fn by_name(line: &[u8]) -> Option<&[u8]> {
    let end = line.iter().position(|byte| b":,;#[|".contains(byte)).unwrap_or(line.len());
    let mut name = line.get(..end)?;
    for _ in 0..=PREFIX_SEGMENTS_MAX {
        let (first, rest) = cut(name)?;
        let id = match first {
            b"dag" | b"dagrun" | b"ti" => by_rest(first, rest),
            b"task_removed_from_dag" | b"task_restored_to_dag" => Some(rest),
            _ => None,
        };
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            return Some(id);
        }
        name = rest;
    }
    None
}

fn by_rest<'a>(first: &[u8], rest: &'a [u8]) -> Option<&'a [u8]> {
    let (second, after) = cut(rest)?;
    match (first, second) {
        // dag.<dag>.<task>.duration
        (b"dag", dag) => cut(after).map(|_| dag),
        // ti.start.<dag>.<task>, ti.finish.<dag>.<task>.<state>
        (b"ti", b"start" | b"finish") => cut(after).map(|(dag, _)| dag),
        // dagrun.duration.success.<dag>
        (b"dagrun", b"duration") => cut(after).map(|(_, dag)| dag),
        (b"dagrun", b"schedule_delay" | b"dependency-check") => Some(after),
        // dagrun.<dag>.first_task_scheduling_delay; the id may have dots, what follows has none.
        (b"dagrun", _) => {
            let at = memchr::memrchr(b'.', rest)?;
            let (dag, last) = rest.split_at_checked(at)?;
            last.starts_with(b".first_task_").then_some(dag)
        }
        _ => None,
    }
}

/// What stands before and behind the first dot.
fn cut(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = name.split_at_checked(memchr::memchr(b'.', name)?)?;
    Some((first, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, dag: Option<&str>) {
        assert_eq!(dag_of(line.as_bytes()), dag.map(str::as_bytes), "{line}");
    }

    #[test]
    fn the_tag_names_it_in_every_dialect() {
        check("airflow.ti_failures:1|c|#task_id:t,dag_id:etl:v2,x:y", Some("etl:v2"));
        check("airflow.ti.start,dag_id=etl,task_id=t:1|c", Some("etl"));
        check("airflow.ti.start;task_id=t;dag_id=etl:1|c", Some("etl"));
        check("airflow.ti.start[dag_id=etl]:1|c", Some("etl"));
        check("airflow.ti.start#dag_id=etl:1|c", Some("etl"));
        check("a:1|c|#root_dag_id:no,dag_id:yes|c:x", Some("yes"));
        check("a:1|c|#dag_id:", None);
        check("a:1|c|#dag_id", None);
    }

    #[test]
    fn else_the_shape_of_the_name_does() {
        check("airflow.dag.etl.load.duration:3|ms", Some("etl"));
        check("dag.etl.load.queued_duration:3|ms", Some("etl"));
        check("airflow.ti.finish.etl.load.success:1|c", Some("etl"));
        check("a.b.ti.start.etl.load:1|c", Some("etl"));
        check("airflow.dagrun.duration.success.team.etl:3|ms", Some("team.etl"));
        check("airflow.dagrun.schedule_delay.etl:3|ms", Some("etl"));
        check("airflow.dagrun.team.etl.first_task_scheduling_delay:3|ms", Some("team.etl"));
        check("airflow.task_removed_from_dag.etl:1|c", Some("etl"));
    }

    #[test]
    fn other_names_are_of_no_dag() {
        for line in [
            "airflow.scheduler.heartbeat:1|c",
            "airflow.dag_processing.last_duration.etl:1|ms",
            "airflow.ti_failures:1|c",
            "dag:1|c",
            "a.b.c.d.ti.start.etl.load:1|c",
            "airflow.dag.:1|c",
            "",
        ] {
            check(line, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_panic(line in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = dag_of(&line);
            let _ = dag_of(&[&b"dag.dag_id="[..], &line, b"dagrun.", &line].concat());
        }
    }
}
