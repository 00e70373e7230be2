//! One suite for all stores: what holds on one holds on each.

#![allow(clippy::unwrap_used, reason = "clippy.toml's exception does not reach the helpers of a test")]

mod cases;
mod killed;
mod model;
mod outage;
mod races;
mod schema;
mod site;

use site::{Kind, Site};

/// A test of each store for each case.
macro_rules! on_every_store {
    ($($module:ident :: $case:ident),* $(,)?) => {
        on_every_store!(@memory Memory $($module::$case),*);
        on_every_store!(@sqlite Sqlite $($module::$case),*);
        on_every_store!(@postgres Postgres $($module::$case),*);
    };
    (@$store:ident $kind:ident $($module:ident :: $case:ident),*) => {
        mod $store {
            use super::*;
            $(
                #[tokio::test]
                async fn $case() {
                    if let Some(site) = Site::of(Kind::$kind).await {
                        $module::$case(&site).await;
                        let store = site.open().await;
                        assert_eq!(store.contradictions().await.unwrap(), Vec::<String>::new());
                    }
                }
            )*
        }
    };
}

on_every_store![
    cases::a_late_result_of_a_lost_lease_changes_nothing,
    cases::an_expired_lease_that_nobody_took_over_counts,
    cases::a_completion_that_is_repeated_was_done_already,
    cases::a_failure_is_tried_again_until_the_attempts_are_over,
    cases::a_lease_that_runs_out_on_the_last_attempt_fails_the_task,
    cases::a_release_gives_the_attempt_back,
    cases::the_first_of_two_leases_wins,
    cases::a_speculation_goes_on_when_the_first_fails,
    cases::adding_twice_adds_once,
    cases::the_heaviest_goes_first_and_delays_are_kept,
    cases::a_renewal_keeps_the_lease_and_says_what_is_lost,
    cases::a_transaction_is_whole_or_nothing,
    cases::records_have_versions_that_never_come_again,
    cases::ranges_are_in_the_order_of_bytes_and_have_pages,
    cases::an_office_has_one_holder,
    cases::what_is_forgotten_does_not_come_back,
    cases::a_queue_tells_how_far_it_is,
    cases::what_does_not_fit_is_refused_before_anything_happens,
    cases::payloads_are_any_bytes,
    cases::adding_and_failing_give_hints,
    races::two_claimers_never_hold_one_task,
    races::tasks_that_are_stolen_all_the_time_end_once,
    races::of_those_who_make_one_record_one_wins,
    races::counting_with_versions_loses_no_count,
    races::transactions_in_any_order_do_not_stop_each_other,
    races::there_is_one_leader_at_a_time,
    killed::a_call_that_is_dropped_at_any_await_happens_whole_or_not_at_all,
];
