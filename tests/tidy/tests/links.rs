//! Links in the documentation lead somewhere.

use std::fs;

#[test]
fn every_relative_link_leads_to_a_file() {
    let mut faults = Vec::new();
    let mut links = 0;
    for file in weft_tidy::files() {
        if file.extension().is_none_or(|kind| kind != "md") {
            continue;
        }
        let text = fs::read_to_string(weft_tidy::root().join(&file)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if path.is_empty() || link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let folder = weft_tidy::root().join(&file).parent().unwrap().to_owned();
            if !folder.join(path).exists() {
                faults.push(format!("{}: ({link}) leads nowhere", file.display()));
            }
        }
    }
    assert!(links > 5, "only {links} links found: the check itself is broken");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
