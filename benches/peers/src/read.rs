//! Reading a journal's records as values of a type.

use std::{
    fs::File,
    hint::black_box,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use untorn::{Format, Reader};

use crate::{
    Bed,
    common::{floors, ratio::timed, records::Message},
    table::Table,
};

/// All read the same payloads; a seal is bytes that only `untorn` reads, so its speed counts payloads too.
pub fn add<'a>(table: &mut Table<'a>, bed: &'a Bed, bytes: u64) {
    let sealed = bed.scratch.journal(Format::Sealed, bytes, &bed.records);
    let plain = bed.scratch.path().join("plain.jsonl");
    unseal(&sealed, &plain);
    let amount = std::fs::metadata(&plain).unwrap().len();
    table.machine(
        "serde_json from_slice for each line",
        amount,
        floors::lines(&plain, |line| {
            black_box(serde_json::from_slice::<Message>(line).unwrap());
        }),
    );
    table.add("untorn", amount, untorn(sealed));
    table.add("untorn, plain lines", amount, untorn(plain.clone()));
    table.add(
        "serde-jsonlines",
        amount,
        each(plain.clone(), |path| {
            serde_jsonlines::json_lines::<Message, _>(path).unwrap().for_each(|record| drop(black_box(record.unwrap())));
        }),
    );
    table.add(
        "serde_json StreamDeserializer",
        amount,
        each(plain.clone(), |path| {
            let records = serde_json::Deserializer::from_reader(BufReader::new(File::open(path).unwrap())).into_iter::<Message>();
            records.for_each(|record| drop(black_box(record.unwrap())));
        }),
    );
    table.add(
        "std lines + from_str",
        amount,
        each(plain, |path| {
            let lines = BufReader::new(File::open(path).unwrap()).lines();
            lines.for_each(|line| drop(black_box(serde_json::from_str::<Message>(&line.unwrap()).unwrap())));
        }),
    );
}

fn unseal(sealed: &Path, plain: &Path) {
    let mut lines = Vec::new();
    let mut reader = Reader::open(sealed).unwrap();
    while let Some(mut line) = reader.next_line().unwrap() {
        lines.extend_from_slice(line.payload().unwrap());
        lines.push(b'\n');
    }
    std::fs::write(plain, lines).unwrap();
}

fn untorn(path: PathBuf) -> impl FnMut(u64) -> Duration {
    each(path, |path| {
        let mut records = Reader::open(path).unwrap().records::<Message>();
        records.by_ref().for_each(|record| drop(black_box(record.unwrap())));
        assert!(records.damage().is_empty());
    })
}

fn each(path: PathBuf, read: impl Fn(&Path)) -> impl FnMut(u64) -> Duration {
    move |count| timed(|| (0..count).for_each(|_| read(&path)))
}
