//! The body of a watch: what a client knows of some services, and what it is told next.
//!
//! Owns: [`Stream`], which follows the views of its services. Does not own: the shape of events (`events`),
//! and dropping a client that takes nothing (`progress`).
//!
//! Nothing is queued for a slow client. It is asked for bytes only when there is room for them, holds the views
//! that it has told of (which it shares with everybody), and when all of them is written computes what leads to
//! the newest ones: what happened in between is never told, and never kept.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use bytes::{Bytes, BytesMut};
use hyper::body::Frame;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::clock;
use crate::http::{
    difference::{self, Change},
    door::Door,
    encode, events,
    waiters::Subscription,
};
use crate::registry::{
    instance::ServiceKey,
    lease::Moment,
    select::Filter,
    view::{Member, Revision, View, revision},
};

/// About how much is written at a time. With what hyper holds back (64 KiB) it is all that waits for a client.
const CHUNK: usize = 16 * 1024;

/// A quiet stream says so often that it lives: proxies wait a minute, or half of one.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How long a client should wait before it connects again, in milliseconds: so that those of a replica that went
/// do not come to another in the same moment.
const RETRY: Range<u32> = 1_000..5_000;

/// The life of a stream, in seconds: so that clients spread anew over the replicas.
const LIFE: Range<u64> = 1_800..3_600;

/// Where readers need a right, which is asked for when a stream begins, and may be taken away.
const LIFE_BY_RIGHT: Range<u64> = 60..120;

/// What follows some services.
pub(super) struct Stream {
    door: Arc<Door>,
    subscription: Subscription,
    filter: Filter,
    known: Box<[Known]>,
    /// What is still to be told of the last look: at most one of each service.
    round: VecDeque<Telling>,
    preface: BytesMut,
    alive: Interval,
    ends: Moment,
}

/// What the client knows of a service when all of the round is told.
struct Known {
    key: ServiceKey,
    /// None: nothing is there.
    view: Option<Arc<View>>,
    /// Of those in it who are wanted. None: nothing was told yet.
    revision: Option<Revision>,
}

/// What is to be told of one service.
struct Telling {
    /// Which of those known.
    at: usize,
    what: What,
}

enum What {
    Snapshot { members: vec::IntoIter<Arc<Member>>, begun: bool },
    Changes(vec::IntoIter<Change>),
}

impl Stream {
    /// Follows `keys`, for which it is subscribed. `last` is the id of what the client knows already.
    pub(super) fn new(
        door: Arc<Door>,
        subscription: Subscription,
        filter: Filter,
        keys: Box<[ServiceKey]>,
        last: Option<&str>,
    ) -> Self {
        let mut alive = interval(ALIVE_EVERY);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick would be at once.
        alive.reset();
        let mut preface = BytesMut::new();
        events::retry(&mut preface, fastrand::u32(RETRY));
        let life = fastrand::u64(if door.doorman.reads { LIFE_BY_RIGHT } else { LIFE });
        let known = keys.into_iter().map(|key| Known { key, view: None, revision: None });
        let mut stream = Self {
            door,
            subscription,
            filter,
            known: known.collect(),
            round: VecDeque::new(),
            preface,
            alive,
            ends: clock::moment().after(Duration::from_secs(life)),
        };
        stream.look();
        stream.leave_out(last);
        stream
    }

    /// Takes what is new into the round, which is empty.
    fn look(&mut self) {
        let directory = self.door.inbox.directory();
        for (at, known) in self.known.iter_mut().enumerate() {
            let view = directory.service(&known.key.namespace, &known.key.service);
            if known.revision.is_some() && is_same(known.view.as_ref(), view.as_ref()) {
                continue;
            }
            let members = chosen(&self.filter, view.as_ref());
            let newest = revision(members.iter().map(|member| member.as_ref()));
            let what = match known.revision {
                Some(told) if told == newest => None,
                Some(_) => {
                    let before = chosen(&self.filter, known.view.as_ref());
                    Some(What::Changes(difference::between(&before, &members).into_iter()))
                }
                None => {
                    let members: Vec<_> = members.into_iter().cloned().collect();
                    Some(What::Snapshot { members: members.into_iter(), begun: false })
                }
            };
            self.round.extend(what.map(|what| Telling { at, what }));
            known.view = view;
            known.revision = Some(newest);
        }
    }

    /// Leaves out the snapshots of what a client knows that has come back.
    fn leave_out(&mut self, last: Option<&str>) {
        let last: Vec<_> = last.map_or_else(Vec::new, |last| last.split(',').collect());
        if last.len() == self.known.len() {
            let known = &self.known;
            self.round.retain(|telling| {
                let revision = known.get(telling.at).and_then(|known| known.revision);
                let told = last.get(telling.at).map(|told| told.trim());
                told != revision.map(|revision| revision.to_string()).as_deref()
            });
        }
    }

    /// The next bytes of the round; none when it is told.
    fn write(&mut self) -> Option<Bytes> {
        let mut out = std::mem::take(&mut self.preface);
        while out.len() < CHUNK {
            let Some(telling) = self.round.front_mut() else { break };
            let known = self.known.get(telling.at);
            let through = known.is_none_or(|known| telling.step(&mut out, known, &self.door.zone));
            if !through {
                continue;
            }
            self.round.pop_front();
            self.subscription.metrics().events.inc();
            let is_last = self.round.is_empty();
            let revisions = self.known.iter().filter_map(|known| known.revision);
            events::close(&mut out, is_last.then(|| events::id(revisions)).as_deref());
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    fn is_over(&self) -> bool {
        self.subscription.has_ended() || clock::moment() >= self.ends
    }
}

impl Telling {
    /// Writes a part. Answers whether all is written but the end of the last event.
    fn step(&mut self, out: &mut BytesMut, known: &Known, zone: &str) -> bool {
        let revision = known.revision.unwrap_or(Revision(0));
        match &mut self.what {
            What::Snapshot { members, begun } => {
                let is_first = !std::mem::replace(begun, true);
                if is_first {
                    events::snapshot_begin(out, &known.key, revision);
                }
                let Some(member) = members.next() else {
                    events::snapshot_end(out);
                    return true;
                };
                events::snapshot_member(out, encode::member(&member, zone), is_first);
                false
            }
            What::Changes(changes) => {
                match changes.next() {
                    Some(Change::Upsert(member)) => {
                        events::upsert(out, encode::member(&member, zone), revision);
                    }
                    Some(Change::Remove(member)) => {
                        events::remove(out, &known.key, &member.instance.key.name, revision);
                    }
                    None => {}
                }
                changes.as_slice().is_empty()
            }
        }
    }
}

fn chosen<'a>(filter: &Filter, view: Option<&'a Arc<View>>) -> Vec<&'a Arc<Member>> {
    view.map(|view| filter.apply(view)).unwrap_or_default()
}

fn is_same(one: Option<&Arc<View>>, other: Option<&Arc<View>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

impl hyper::body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(bytes) = self.write() {
                self.alive.reset();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.is_over() {
                return Poll::Ready(None);
            }
            if self.subscription.poll_rung(cx).is_ready() {
                self.look();
            } else if self.alive.poll_tick(cx).is_ready() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(events::ALIVE)))));
            } else {
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a stream of {} services", self.known.len())
    }
}
