//! The command as it is seen from a shell. Each transcript in `tests/cli` says in its first line what it shows.

#[test]
fn the_command_does_what_its_transcripts_show() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd").case("tests/cli/*.toml");
}
