//! Any bytes -> the loader of mapping files: no panic, strict rules refuse whatever was warned about,
//! and what loads can be looked up, drawn and linted.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rotameter::mapper::{Captures, LoadError, LoadOptions, Mapper, MetricType, lint};

const NAMES: [&str; 6] = ["", "a", "a.b.c", "airflow.dag.example.task.duration", "a..-_9.", "é.\u{1F600}"];

fuzz_target!(|file: &[u8]| {
    let strict = Mapper::from_text(file, "fuzz", LoadOptions { strict: true });
    let loaded = match Mapper::from_text(file, "fuzz", LoadOptions::default()) {
        Ok(loaded) => loaded,
        Err(error) => {
            assert!(strict.is_err(), "strict rules took what is refused: {error}");
            if let LoadError::Invalid { problems, .. } = &error {
                assert!(!problems.is_empty());
            }
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert_eq!(strict.is_ok(), loaded.warnings.is_empty());
    let mapper = loaded.mapper;
    let mut captures = Captures::default();
    let mut out = String::new();
    for metric_type in MetricType::ALL {
        for name in NAMES {
            let found = mapper.find(metric_type, name, &mut captures).map(|rule| rule.number);
            if let Some(rule) = found.and_then(|number| mapper.rules().get(number)) {
                rule.name.expand(name, &captures, &mut out);
                for (_, template) in &rule.labels {
                    template.expand(name, &captures, &mut out);
                }
            }
            let explained = mapper.explain(metric_type, name);
            assert_eq!(explained.rule.map(|rule| rule.number), found);
        }
    }
    let _ = (mapper.dump_dot(), lint(&mapper));
});
