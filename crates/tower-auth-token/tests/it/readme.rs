//! The README, the help and the program list the same exit codes and variables.

use crate::support::World;

const README: &str = include_str!("../../README.md");

#[tokio::test]
async fn the_readme_and_the_help_list_the_same_exit_codes() {
    let world = World::new().await;
    let help = world.bare().args(["--help"]).prints().await;
    let rows = README.lines().filter_map(|line| {
        let (code, meaning) = line
            .strip_prefix("| ")?
            .strip_suffix(" |")?
            .split_once(" | ")?;
        code.parse::<u8>().ok().map(|code| (code, meaning))
    });
    let rows: Vec<_> = rows.collect();
    assert_eq!(rows.len(), 8, "{rows:?}");
    for (code, meaning) in rows {
        assert!(
            help.contains(&format!("  {code:2}  {meaning}\n")),
            "{code}: {help}"
        );
    }
}

#[tokio::test]
async fn the_readme_names_each_setting_of_the_help() {
    let world = World::new().await;
    let help = world.bare().args(["--help"]).prints().await;
    let settings = help.split("Settings:").nth(1).unwrap();
    let settings = settings.split("Output:").next().unwrap();
    let words = settings.split(|c: char| c.is_whitespace() || "(;)".contains(c));
    let names = words.filter(|word| word.starts_with("--") || word.contains('_'));
    let names: Vec<_> = names.collect();
    assert!(names.len() > 12, "{names:?}");
    for name in names {
        assert!(README.contains(name), "{name}");
    }
}

#[test]
fn the_readme_fits_on_a_screen() {
    assert!(README.lines().count() <= 75);
}
