//! Calls: they find the leader, outlive members, and end by their deadline.

use std::time::Duration;

use weft_index::{Change, Report, ReportForm};
use weft_metadata_client::{MetadataError, ReportAck};
use weft_types::{BlockSize, Contract, EndpointSpec, HolderGrant, Incarnation, IndexKey, ModelKey, Part, Role};

use crate::service::{Group, SOON, node};

fn key(number: u8) -> IndexKey {
    IndexKey::from_bytes([number; 16])
}

fn report(grant: &HolderGrant, number: u64, changes: Vec<Change>) -> Report {
    let HolderGrant { holder, generation, incarnation, .. } = *grant;
    Report { holder, generation, incarnation, number, form: ReportForm::default(), changes }
}

#[tokio::test]
async fn a_write_follows_the_hint_to_the_leader_and_the_next_goes_there_at_once() {
    let group = Group::start(3);
    group.lead(Some(2));
    let client = group.client(Role::Node, &[0]);
    let joined = client.join(&node("a", 1), SOON).await.unwrap();
    assert_eq!((joined.grants.len(), joined.lease), (1, Duration::from_secs(2)));
    assert_eq!(client.members(), [group.addr(0), group.addr(2)]);
    let stored = vec![Change::Stored(key(1))];
    let acks = client.report(&[report(&joined.grants[0], 1, stored)], SOON).await.unwrap();
    assert_eq!(acks, [ReportAck::Applied { number: 1 }]);
    assert_eq!(*group.shared().redirected.borrow(), 1, "only the first write was sent to a follower");
    let found = client.lookup(&[key(1), key(2)], SOON).await.unwrap();
    assert_eq!(found, [(joined.grants[0].clone(), 1)]);
}

#[tokio::test]
async fn a_write_waits_out_an_election() {
    let group = Group::start(3);
    group.lead(None);
    let client = group.client(Role::Node, &[0, 1, 2]);
    let writing = tokio::spawn(async move { client.join(&node("a", 1), SOON).await });
    // Everybody has been asked, and knew no leader.
    group.shared().redirected.subscribe().wait_for(|times| *times >= 3).await.unwrap();
    group.lead(Some(1));
    writing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_dead_leader_costs_an_attempt() {
    let group = Group::start(3);
    let client = group.client(Role::Node, &[0, 1, 2]);
    let joined = client.join(&node("a", 1), SOON).await.unwrap();
    group.members[0].close().await;
    // The others still name the dead one for a while.
    let writing = {
        let (client, grant) = (client.clone(), joined.grants[0].clone());
        tokio::spawn(async move { client.report(&[report(&grant, 1, vec![])], SOON).await })
    };
    group.shared().redirected.subscribe().wait_for(|times| *times >= 1).await.unwrap();
    group.lead(Some(2));
    assert_eq!(writing.await.unwrap().unwrap(), [ReportAck::Applied { number: 1 }]);
}

#[tokio::test]
async fn a_read_fails_over() {
    let group = Group::start(2);
    let client = group.client(Role::Router, &[0, 1]);
    client.roster(SOON).await.unwrap();
    group.members[0].close().await;
    group.lead(Some(1));
    assert!(client.roster(SOON).await.unwrap().nodes.is_empty());
    assert_eq!(client.lookup(&[key(1)], SOON).await.unwrap(), []);
}

#[tokio::test]
async fn without_a_leader_a_write_ends_by_its_deadline_and_says_whom_it_asked() {
    let group = Group::start(2);
    group.lead(None);
    let client = group.client(Role::Node, &[0, 1]);
    let after = Duration::from_millis(200);
    let error = client.join(&node("a", 1), after).await.unwrap_err();
    let MetadataError::Unavailable { members, after: said, .. } = &error else { panic!("{error}") };
    assert_eq!((members.as_slice(), *said), ([group.addr(0), group.addr(1)].as_slice(), after));
    assert!(error.to_string().contains("does not lead"), "{error}");
}

#[tokio::test]
async fn members_that_name_each_other_are_not_asked_in_a_tight_loop() {
    let group = Group::start(3);
    group.lead(None);
    group.shared().knobs.send_modify(|knobs| knobs.hints_wrong = true);
    let client = group.client(Role::Node, &[0, 1, 2]);
    client.join(&node("a", 1), Duration::from_millis(300)).await.unwrap_err();
    // Pauses of at least 5, 10, 20, 40, 80 and 100 ms: eight times two members at the very most, on any machine.
    let asked = *group.shared().redirected.borrow();
    assert!(asked <= 16, "{asked} answers in 300 ms");
}

#[tokio::test]
async fn a_report_sent_twice_is_applied_once() {
    let group = Group::start(1);
    let client = group.client(Role::Node, &[0]);
    let grant = client.join(&node("a", 1), SOON).await.unwrap().grants.remove(0);
    let first = report(&grant, 1, vec![Change::Stored(key(1))]);
    let then = report(&grant, 2, vec![Change::Removed(key(1))]);
    for reports in [vec![first.clone()], vec![then], vec![first]] {
        client.report(&reports, SOON).await.unwrap();
    }
    assert_eq!(client.lookup(&[key(1)], SOON).await.unwrap(), []);
    let acks = client.report(&[report(&grant, 9, vec![])], SOON).await.unwrap();
    assert_eq!(acks, [ReportAck::Gap { expected: 3 }]);
}

#[tokio::test]
async fn what_would_be_refused_again_is_not_tried_again() {
    let group = Group::start(2);
    let client = group.client(Role::Node, &[1, 0]);
    client.join(&node("a", 2), SOON).await.unwrap();
    let error = client.join(&node("a", 1), SOON).await.unwrap_err();
    assert!(matches!(&error, MetadataError::Refused(why) if why.contains("incarnation 2")), "{error}");

    let router = group.client(Role::Router, &[0]);
    let error = router.join(&node("r", 1), SOON).await.unwrap_err();
    assert!(matches!(&error, MetadataError::Refused(why) if why.contains("router")), "{error}");
}

#[tokio::test]
async fn a_contract_conflict_arrives_with_both_sides() {
    let group = Group::start(1);
    let client = group.client(Role::Node, &[0]);
    let endpoint = |id: &str, bytes| EndpointSpec {
        id: id.parse().unwrap(),
        incarnation: Incarnation::new(1),
        url: "http://127.0.0.1:8000".into(),
        node: None,
        ranks: 1,
        contracts: vec![Contract {
            model_key: ModelKey {
                model: "sim-8b".into(),
                revision: "sim-1".into(),
                adapter: String::new(),
                salt: String::new(),
                layout: "sim".into(),
                block_tokens: BlockSize::DEFAULT,
            },
            parts: vec![Part { bytes, ranks: vec![0] }],
            aliases: vec![],
            tokenizer: String::new(),
            chat_template: String::new(),
        }],
    };
    assert_eq!(client.put_endpoint(&endpoint("e", 64), SOON).await.unwrap().len(), 1);
    let error = client.put_endpoint(&endpoint("f", 65), SOON).await.unwrap_err();
    let MetadataError::Conflict(conflict) = error else { panic!("{error}") };
    assert!(conflict.agreed.contains("64") && conflict.offered.contains("65"), "{conflict}");
}
