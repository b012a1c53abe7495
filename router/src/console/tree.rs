//! The hottest prefixes: what the last prompts began with, as a tree of the runs of chunks that they share.

use serde::Serialize;

use crate::prints::Prints;

/// A prompt, as far as the tree is concerned. Ordered, so that prompts that begin alike are neighbours.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Prompt<'a> {
    /// Prompts of different groups share nothing: a model, and a tenant.
    pub(super) group: (&'a str, &'a str),
    /// Fingerprints of its chunks.
    pub(super) chunks: &'a [u64],
}

/// A run of chunks that several prompts went through together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Branch {
    /// Whose.
    model: String,
    tenant: String,
    /// Fingerprint of its last chunk, which stands for all before it.
    print: String,
    /// Tokens from the prompt's first to its own first.
    from_tokens: u32,
    /// And to its end.
    to_tokens: u32,
    /// Prompts that went through it.
    prompts: usize,
    /// Where they parted, the one that the most tokens went through first.
    branches: Vec<Branch>,
}

/// Branches of one branch: more say nothing to people.
const WIDTH_MAX: usize = 8;
/// Branches on the way to one: an agent's log grows by one at each step.
const DEPTH_MAX: usize = 12;

/// The roots, the one that the most tokens went through first.
pub(super) fn grow(mut prompts: Vec<Prompt<'_>>) -> Vec<Branch> {
    prompts.sort_unstable();
    let groups = prompts.chunk_by(|a, b| a.group == b.group);
    heaviest(groups.flat_map(|group| part(group, 0, DEPTH_MAX)).collect())
}

/// The branches that prompts take after `depth` chunks that all of them share.
fn part(prompts: &[Prompt<'_>], depth: usize, levels: usize) -> Vec<Branch> {
    let Some(levels) = levels.checked_sub(1) else { return Vec::new() };
    let longer = &prompts[prompts.partition_point(|prompt| prompt.chunks.len() <= depth)..];
    let ways = longer.chunk_by(|a, b| a.chunks[depth] == b.chunks[depth]).filter(|way| way.len() > 1);
    heaviest(ways.map(|way| branch(way, depth, levels)).collect())
}

fn branch(way: &[Prompt<'_>], from: usize, levels: usize) -> Branch {
    let (first, last) = (&way[0], &way[way.len() - 1]);
    // They are in order: what the first and the last share, all share.
    let to = first.chunks.iter().zip(last.chunks).take_while(|(a, b)| a == b).count();
    Branch {
        model: first.group.0.to_owned(),
        tenant: first.group.1.to_owned(),
        print: format!("{:016x}", first.chunks[to - 1]),
        from_tokens: Prints::tokens_of(from),
        to_tokens: Prints::tokens_of(to),
        prompts: way.len(),
        branches: part(way, to, levels),
    }
}

fn heaviest(mut branches: Vec<Branch>) -> Vec<Branch> {
    let tokens = |branch: &Branch| u64::from(branch.to_tokens - branch.from_tokens) * branch.prompts as u64;
    branches.sort_by_key(|branch| std::cmp::Reverse(tokens(branch)));
    branches.truncate(WIDTH_MAX);
    branches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_share_what_they_began_with_and_nothing_across_tenants() {
        let of = |tenant, chunks| Prompt { group: ("m", tenant), chunks };
        let roots = grow(vec![
            of("a", &[1, 2, 3, 4]),
            of("a", &[1, 2, 3, 5]),
            of("a", &[1, 2]),
            of("a", &[1, 2, 3, 5, 6]),
            of("a", &[9, 2, 3]),
            of("b", &[1, 2, 3]),
            of("b", &[1, 2, 3]),
        ]);
        let seen = |branch: &Branch| (branch.tenant.clone(), branch.from_tokens, branch.to_tokens, branch.prompts);
        assert_eq!(roots.iter().map(seen).collect::<Vec<_>>(), [("a".into(), 0, 128, 4), ("b".into(), 0, 192, 2)]);
        assert_eq!(roots[0].branches.iter().map(seen).collect::<Vec<_>>(), [("a".into(), 128, 192, 3)]);
        assert_eq!(roots[0].branches[0].branches.iter().map(seen).collect::<Vec<_>>(), [("a".into(), 192, 256, 2)]);
        assert_eq!(roots[1].branches, [], "equal prompts part nowhere");
    }

    #[test]
    fn a_fleet_of_prompts_makes_a_small_tree() {
        let chunks: Vec<Vec<u64>> = (0..100).flat_map(|at| [vec![0, at], vec![0, at]]).collect();
        let long: Vec<Vec<u64>> = (1..40).map(|len| (100..100 + len).collect()).collect();
        let all = chunks.iter().chain(&long).map(|chunks| Prompt { group: ("m", "t"), chunks });
        let roots = grow(all.collect());
        fn depth(branch: &Branch) -> usize {
            1 + branch.branches.iter().map(depth).max().unwrap_or(0)
        }
        assert_eq!(roots.iter().map(|root| root.branches.len()).max(), Some(WIDTH_MAX));
        assert_eq!(roots.iter().map(depth).max(), Some(DEPTH_MAX));
    }
}
