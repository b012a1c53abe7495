//! What a client knows of the group: who is in it, who led, who answered.

use std::net::SocketAddr;

/// Most members remembered: a group has 3 or 5, and addresses change when it is moved.
const MEMBERS_MAX: usize = 16;

/// The members known, in the order in which they are tried.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    members: Vec<SocketAddr>,
    leader: Option<SocketAddr>,
    reader: SocketAddr,
}

impl Group {
    /// # Panics
    /// Without members: the configuration of every role asks for one.
    pub(crate) fn new(members: Vec<SocketAddr>) -> Self {
        let reader = *members.first().expect("a metadata client is given at least one member");
        Self { members, leader: None, reader }
    }

    pub(crate) fn members(&self) -> &[SocketAddr] {
        &self.members
    }

    /// Where a write goes first.
    pub(crate) fn writer(&self) -> SocketAddr {
        self.leader.unwrap_or(self.reader)
    }

    /// Where a read goes first.
    pub(crate) fn reader(&self) -> SocketAddr {
        self.reader
    }

    /// This member answered a write.
    pub(crate) fn leads(&mut self, member: SocketAddr) {
        self.learn(member);
        self.leader = Some(member);
    }

    /// This member answered a read.
    pub(crate) fn answered(&mut self, member: SocketAddr) {
        self.learn(member);
        self.reader = member;
    }

    /// This member did not answer: who is next? Reads go there too, if they went to it.
    pub(crate) fn failed(&mut self, member: SocketAddr) -> SocketAddr {
        let next = self.redirected(member, None, None);
        if self.reader == member {
            self.reader = next;
        }
        next
    }

    /// This member does not lead: who is next? The one it names, else the one behind it, but for one that is `silent`.
    pub(crate) fn redirected(
        &mut self,
        member: SocketAddr,
        hint: Option<SocketAddr>,
        silent: Option<SocketAddr>,
    ) -> SocketAddr {
        if self.leader == Some(member) {
            self.leader = None;
        }
        if let Some(hint) = hint {
            self.learn(hint);
            return hint;
        }
        let at = self.members.iter().position(|known| *known == member).map_or(0, |at| at + 1);
        let behind = self.members.iter().cycle().skip(at % self.members.len()).take(self.members.len());
        *behind.clone().find(|next| Some(**next) != silent).unwrap_or(&self.members[0])
    }

    /// A member was named by another. The last ones learnt give way when there are too many.
    pub(crate) fn learn(&mut self, member: SocketAddr) {
        if !self.members.contains(&member) {
            self.members.truncate(MEMBERS_MAX - 1);
            self.members.push(member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn writes_go_to_the_leader_until_it_fails() {
        let mut group = Group::new(vec![addr(1), addr(2), addr(3)]);
        assert_eq!(group.writer(), addr(1));
        group.leads(addr(3));
        assert_eq!((group.writer(), group.reader()), (addr(3), addr(1)));
        assert_eq!(group.failed(addr(3)), addr(1));
        assert_eq!(group.writer(), addr(1));
    }

    #[test]
    fn reads_stay_with_who_answered_and_move_on_from_who_did_not() {
        let mut group = Group::new(vec![addr(1), addr(2), addr(3)]);
        group.answered(addr(2));
        assert_eq!(group.reader(), addr(2));
        assert_eq!(group.failed(addr(2)), addr(3));
        assert_eq!(group.reader(), addr(3));
        assert_eq!(group.failed(addr(1)), addr(2), "the failure of another does not move reads");
        assert_eq!(group.redirected(addr(3), Some(addr(1)), None), addr(1));
        assert_eq!(group.reader(), addr(3), "one that does not lead still answers reads");
    }

    #[test]
    fn one_that_is_silent_is_passed_over_while_the_others_elect() {
        let mut group = Group::new(vec![addr(1), addr(2), addr(3)]);
        assert_eq!(group.redirected(addr(3), None, Some(addr(1))), addr(2));
        assert_eq!(group.redirected(addr(2), None, Some(addr(1))), addr(3));
        assert_eq!(group.redirected(addr(3), None, None), addr(1));
        let mut alone = Group::new(vec![addr(1)]);
        assert_eq!(alone.redirected(addr(1), None, Some(addr(1))), addr(1), "there is nobody else");
    }

    #[test]
    fn what_is_learnt_is_bounded_and_tried() {
        let mut group = Group::new(vec![addr(1)]);
        group.leads(addr(2));
        assert_eq!(group.members(), [addr(1), addr(2)]);
        for port in 3..100 {
            group.learn(addr(port));
        }
        assert_eq!(group.members().len(), MEMBERS_MAX);
        assert_eq!(group.members().last(), Some(&addr(99)));
        assert_eq!(group.failed(addr(77)), addr(1), "one that was forgotten is followed by the first");
    }
}
