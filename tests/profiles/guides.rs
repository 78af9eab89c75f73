//! Ids that published guides use, and ids in Korean -> labels of the profiles.

use std::fs;
use std::sync::Arc;

use rotameter::mapper::LoadOptions;
use rotameter::profile::Version;
use rotameter::reload::MappingFile;

use super::{exposition, ingest, mapper, pipeline, settings};

/// Takes the lines alone, with the profile or with none.
fn shown(profile: Option<&str>, lines: &[&str]) -> String {
    let pipeline = match profile {
        Some(profile) => pipeline(&mapper(profile, &settings(Version::V2))),
        None => pipeline(&Arc::default()),
    };
    lines.iter().for_each(|line| ingest(&pipeline, line.as_bytes()));
    exposition(&pipeline)
}

#[track_caller]
fn has(text: &str, samples: &[&str]) {
    for sample in samples {
        assert!(text.lines().any(|line| line == *sample), "{sample} is not in\n{text}");
    }
}

const LINES: [&str; 5] = [
    "airflow.dag_processing.last_duration.crawl_k_startup_announcement:1500|ms",
    "airflow.dag.mydag.first_task.duration:2|ms",
    "airflow.ti.finish.weather_data_pipeline.fetch.success:1|c",
    "airflow.dagrun.schedule_delay.simple_dag:1500|ms",
    "airflow.dag_processing.total_parse_time:3.5|g",
];

#[test]
fn the_ids_of_guides_are_labels() {
    has(
        &shown(Some("airflow"), &LINES),
        &[
            r#"airflow_dag_file_processing_duration_seconds_count{file="crawl_k_startup_announcement"} 1"#,
            r#"airflow_task_duration_seconds_count{dag_id="mydag",task_id="first_task"} 1"#,
            r#"airflow_task_finish_total{dag_id="weather_data_pipeline",state="success",task_id="fetch"} 1"#,
            r#"airflow_dag_run_schedule_delay_seconds_count{dag_id="simple_dag"} 1"#,
            "airflow_dag_processing_pass_duration_seconds 3.5",
        ],
    );
    has(
        &shown(Some("airflow-mixin"), &LINES),
        &[
            r#"airflow_dag_processing_last_duration_count{dag_file="crawl_k_startup_announcement"} 1"#,
            r#"airflow_dag_task_duration_count{dag_id="mydag",task_id="first_task"} 1"#,
            r#"airflow_dagrun_schedule_delay_count{dag_id="simple_dag"} 1"#,
            "airflow_dag_processing_total_parse_time 3.5",
        ],
    );
    // Without any setting, as the guides show it.
    has(
        &shown(None, &LINES),
        &[
            "airflow_dag_processing_last_duration_crawl_k_startup_announcement_sum 1.5",
            "airflow_dag_mydag_first_task_duration_count 1",
            "airflow_dag_processing_total_parse_time 3.5",
        ],
    );
}

#[test]
fn ids_in_korean_stay_as_they_are() {
    let line = "airflow.ti.finish:1|c|#dag_id:날씨_수집,task_id:저장,state:success";
    has(
        &shown(Some("airflow"), &[line]),
        &[r#"airflow_task_finish_total{dag_id="날씨_수집",state="success",task_id="저장"} 1"#],
    );
}

#[test]
fn a_mapping_file_may_be_korean_in_path_comment_and_label() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("매핑 설정.yml");
    let text = "mappings:\n# 날씨 파이프라인\n- match: airflow.weather.*\n  name: weather\n  labels: {작업: \"$1\", kind: 날씨}\n";
    fs::write(&path, text.replace("작업", "task")).expect("a file");
    let (_, mapper) = MappingFile::open(Some(&path), None, LoadOptions::default()).expect("it loads");
    let pipeline = pipeline(&Arc::new(mapper));
    ingest(&pipeline, b"airflow.weather.fetch:1|c");
    has(&exposition(&pipeline), &[r#"weather{kind="날씨",task="fetch"} 1"#]);
    // Names of labels are letters of ASCII in the text format; the error names the file and the label.
    fs::write(&path, text).expect("a file");
    let error = MappingFile::open(Some(&path), None, LoadOptions::default()).expect_err("no such label");
    let error = format!("{:#}", anyhow::Error::new(error));
    assert!(error.contains("작업"), "{error}");
}
