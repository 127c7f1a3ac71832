//! Spellings of the C edition's program, before the parser sees them: underscores in option names, commands in any case, and
//! short main options, which share their letters with options of some commands.

use clap::Command;

/// Main options and the letters that they had.
const SHORT: [(&str, &str); 4] = [("-c", "--config"), ("-f", "--format"), ("-v", "--verbose"), ("-w", "--workflow")];

/// The words as the parser knows them, and what to warn of. The first word is the program's name.
pub fn normal(definition: &Command, words: Vec<String>) -> (Vec<String>, Vec<String>) {
    let mut longs = Vec::new();
    long_names(definition, &mut longs);
    let mut warnings = Vec::new();
    let mut out = Vec::new();
    // The command that the words so far lead to, and whether a word is the value of the option in front of it.
    let mut command = definition;
    let mut is_value = false;
    let mut raw = false;
    for (index, word) in words.into_iter().enumerate() {
        if index == 0 || raw || is_value {
            is_value = false;
            out.push(word);
        } else if word == "--" {
            raw = true;
            out.push(word);
        } else if word.starts_with("--") {
            let word = long(&word, &longs);
            is_value = !word.contains('=') && takes_value(definition, command, &word);
            out.push(word);
        } else if let Some((short, name)) = SHORT.iter().find(|(short, _)| word.starts_with(short)) {
            let own = command.get_arguments().find(|arg| arg.get_short() == short.chars().nth(1));
            if let Some(own) = own {
                let meant = own.get_long().unwrap_or_default();
                warnings.push(format!("{short} means --{meant} here; the main option is spelled {name}"));
                is_value = word.len() == 2;
                out.push(word);
            } else {
                let value = &word[2..];
                is_value = value.is_empty();
                out.push((*name).to_owned());
                out.extend(Some(value.trim_start_matches('=').to_owned()).filter(|value| !value.is_empty()));
            }
        } else if word.starts_with('-') {
            let letter = word.chars().nth(1);
            let own = command.get_arguments().find(|arg| arg.get_short() == letter);
            is_value = word.len() == 2 && own.is_some_and(|arg| arg.get_action().takes_values());
            out.push(word);
        } else {
            let lower = word.to_ascii_lowercase().replace('_', "-");
            match command.find_subcommand(&lower) {
                Some(next) => {
                    command = next;
                    out.push(lower);
                }
                None => out.push(word),
            }
        }
    }
    (out, warnings)
}

fn long_names(command: &Command, into: &mut Vec<String>) {
    for arg in command.get_arguments() {
        into.extend(arg.get_long_and_visible_aliases().unwrap_or_default().into_iter().map(str::to_owned));
        into.extend(arg.get_all_aliases().unwrap_or_default().into_iter().map(str::to_owned));
    }
    for sub in command.get_subcommands() {
        long_names(sub, into);
    }
}

/// The option with hyphens, if one begins like that.
fn long(word: &str, longs: &[String]) -> String {
    let (name, value) = word.split_at(word.find('=').unwrap_or(word.len()));
    let hyphened = name.replace('_', "-");
    let known = longs.iter().any(|long| long.starts_with(&hyphened[2..]));
    if known { hyphened + value } else { word.to_owned() }
}

fn takes_value(main: &Command, command: &Command, word: &str) -> bool {
    let name = word.trim_start_matches('-');
    let find = |command: &Command| {
        let found = command.get_arguments().find(|arg| arg.get_long() == Some(name));
        found
            .map(|arg| arg.get_action().takes_values() && arg.get_num_args().is_none_or(|range| range.min_values() > 0))
    };
    find(command).or_else(|| find(main)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, want: &str, warnings: usize) {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (out, warned) = normal(&crate::cli::definition(), words(&format!("spockctrl {typed}")));
        assert_eq!(out, words(&format!("spockctrl {want}")), "{typed}");
        assert_eq!(warned.len(), warnings, "{typed}: {warned:?}");
    }

    #[test]
    fn spellings() {
        check("-c f node list", "--config f node list", 0);
        check("-cf -v 2 node list", "--config f --verbose 2 node list", 0);
        check("-v2 NODE LIST", "--verbose 2 node list", 0);
        check("node list -c f -f json", "node list --config f --format json", 0);
        check("node create --node_name=n_1 -c DE", "node create --node-name=n_1 -c DE", 1);
        check("sub create -f all --sub_name s", "sub create -f all --sub-name s", 1);
        check("repset add_table -c a -f x", "repset add-table -c a -f x", 2);
        check("sub create --sub_name Sub", "sub create --sub-name Sub", 0);
        check("sql n1 -- --my_text", "sql n1 -- --my_text", 0);
        check("-w f.json", "--workflow f.json", 0);
        check("node drop --node node node", "node drop --node node node", 0);
        check("sql --sql --node_x", "sql --sql --node_x", 0);
    }
}
