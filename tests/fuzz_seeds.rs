//! The fuzz targets' properties, on the seeds they start from. A crash that fuzzing finds becomes one more seed, named after what went wrong.
#![allow(clippy::print_stdout, reason = "the last seed named is the one that failed")]

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::{fs, path::Path};

#[test]
fn every_property_holds_on_its_seeds() {
    for (name, property) in properties::ALL {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let mut run = 0;
        for seed in fs::read_dir(&seeds).unwrap_or_else(|error| panic!("{}: {error}", seeds.display())) {
            let path = seed.unwrap().path();
            println!("{}", path.display());
            property(&fs::read(path).unwrap());
            run += 1;
        }
        assert!(run > 0, "{name} has no seeds");
    }
}
