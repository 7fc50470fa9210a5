package main

// dashboards are all there are. The metrics of others that they name (Open Match, Agones, NATS) are listed in foreign_test.go.
var dashboards = []dashboard{
	{
		uid: "guildhall-join", title: "Guildhall / The path in", about: "From a player's call to the seat: what each step of the path of a ticket takes, and where it fails.",
		rows: []row{
			{title: "What players wait", panels: []panel{
				{
					title: "Call to assignment, p99", unit: "s",
					about: "How long one of a hundred waited for an address: live (the room was there) or ticket (it had to be opened).",
					worry: "live above 0.25 s, ticket above 2 s for ten minutes (GuildhallJoinSlow). Measured with nothing else on the machine: 4 ms, and 20 ms or Open Match's half second.",
					queries: []query{
						{`namespace_path:guildhall_frontend_assign_seconds:p99_5m{namespace=~"$namespace"}`, "{{namespace}} {{path}}"},
					},
				},
				{
					title: "Hello to seat, p50 and p99", unit: "s",
					about: "On the host: the pass is checked, the room found or opened, what was missed is sent.",
					worry: "p99 above 1 s for ten minutes (GuildhallJoinSlow): hosts without CPU, or a NATS that is slow to read.",
					queries: []query{
						{`namespace:guildhall_host_join_seconds:p99_5m{namespace=~"$namespace"}`, "p99"},
						{`histogram_quantile(0.5, sum by (le) (rate(guildhall_host_join_seconds_bucket{namespace=~"$namespace"}[$__rate_interval])))`, "p50"},
					},
				},
				{
					title: "Who waits", unit: "s",
					about: "How long the group that has waited longest has waited, by frontend.",
					worry: "30 s (GuildhallTicketsWaiting). Up to 5 s is a director that died, more is a fleet that has to get a machine.",
					queries: []query{
						{`guildhall_frontend_longest_wait_seconds{namespace=~"$namespace"}`, "{{pod}}"},
					},
				},
			}},
			{title: "Entering", panels: []panel{
				{
					title: "Assignments", unit: "reqps",
					about: "Players who were given an address, by path: live, ticket.",
					worry: "it falls to nothing while players are there.",
					queries: []query{
						{`sum by (path) (rate(guildhall_frontend_assign_seconds_count{namespace=~"$namespace"}[$__rate_interval]))`, "{{path}}"},
					},
				},
				{
					title: "Waiting players", unit: "short",
					about: "Players who wait for a room, by frontend. They cost Open Match one ticket for each group and frontend.",
					worry: "it grows and does not fall.",
					queries: []query{
						{`guildhall_frontend_waiting_players{namespace=~"$namespace"}`, "{{pod}}"},
					},
				},
				{
					title: "Calls refused", unit: "reqps",
					about: "By method and code: unauthenticated and permission_denied are players' tokens and bans.",
					worry: "unavailable or internal; or a jump of unauthenticated, as after a change of keys.",
					queries: []query{
						{`sum by (method, code) (rate(guildhall_frontend_refused_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{method}} {{code}}"},
					},
				},
			}},
			{title: "Tickets", panels: []panel{
				{
					title: "Filed, filed anew, withdrawn", unit: "ops",
					about: "Tickets in Open Match: filed and renewed, filed anew because nobody answered in 5 s, withdrawn because nobody waits.",
					worry: "filed anew: directors die, or the fleet has no room. Failures: Open Match's frontend is away.",
					queries: []query{
						{`sum by (outcome) (rate(guildhall_frontend_tickets_filed_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{outcome}}"},
						{`sum(rate(guildhall_frontend_tickets_refiled_total{namespace=~"$namespace"}[$__rate_interval]))`, "filed anew"},
						{`sum by (outcome) (rate(guildhall_frontend_tickets_withdrawn_total{namespace=~"$namespace"}[$__rate_interval]))`, "withdrawal {{outcome}}"},
					},
				},
				{
					title: "Age when matched, p50 and p99", unit: "s",
					about: "How old a ticket was when a director fetched its match: what Open Match takes.",
					worry: "p50 above 1 s: Open Match collects proposals for too long, or has too many tickets.",
					queries: []query{
						{`histogram_quantile(0.5, sum by (le) (rate(guildhall_director_ticket_age_seconds_bucket{namespace=~"$namespace"}[$__rate_interval])))`, "p50"},
						{`histogram_quantile(0.99, sum by (le) (rate(guildhall_director_ticket_age_seconds_bucket{namespace=~"$namespace"}[$__rate_interval])))`, "p99"},
					},
				},
				{
					title: "What became of tickets", unit: "ops",
					about: "assigned; gone (its player had left), released (no place: it is matched again), expired (its frontend had died), assign_failed.",
					worry: "released or assign_failed, for longer than a rollout.",
					queries: []query{
						{`sum by (outcome) (rate(guildhall_director_tickets_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{outcome}}"},
					},
				},
				{
					title: "How answers came", unit: "ops",
					about: "Waits that ended with a room: told (a director's word over NATS), found (by looking again after seconds).",
					worry: "more found than told: words over NATS are lost.",
					queries: []query{
						{`sum by (how) (rate(guildhall_frontend_answers_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{how}}"},
					},
				},
			}},
			{title: "Placing", panels: []panel{
				{
					title: "Placing a group, p99", unit: "s",
					about: "Claim, host, swap, open: by outcome.",
					worry: "placed above 1 s: it waits for allocations, or hosts are slow to open rooms.",
					queries: []query{
						{`histogram_quantile(0.99, sum by (outcome, le) (rate(guildhall_director_place_seconds_bucket{namespace=~"$namespace"}[$__rate_interval])))`, "{{outcome}}"},
					},
				},
				{
					title: "Placements that failed", unit: "ops",
					about: "By reason; docs/agones.md tells what those of the allocation mean. The group's tickets go back.",
					worry: "more than a handful in five minutes (GuildhallAllocationFailing).",
					queries: []query{
						{`sum by (reason) (rate(guildhall_director_place_failures_total{namespace=~"$namespace"}[$__rate_interval])) > 0`, "{{reason}}"},
					},
				},
				{
					title: "Steps tried again", unit: "ops",
					about: "By reason. claim_lost is two directors that wanted the same: harmless. moving is a room on its way.",
					worry: "host_silent and registry: hosts or NATS do not answer.",
					queries: []query{
						{`sum by (reason) (rate(guildhall_director_place_retries_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{reason}}"},
					},
				},
				{
					title: "Opening a room, p99", unit: "s",
					about: "On the host: the claim is checked, the barrier appended, the last messages read back; by outcome.",
					worry: "opened above 0.5 s: NATS is slow. Measured: a few milliseconds.",
					queries: []query{
						{`histogram_quantile(0.99, sum by (outcome, le) (rate(guildhall_host_open_seconds_bucket{namespace=~"$namespace"}[$__rate_interval])))`, "{{outcome}}"},
					},
				},
			}},
		},
	},
	{
		uid: "guildhall-rooms", title: "Guildhall / Rooms and hosts", about: "Who is where, what is free, and whether every group has one room.",
		rows: []row{
			{title: "Now", panels: []panel{
				{
					title: "Rooms", unit: "short",
					about: "Live rooms, by host.",
					worry: "a host at GUILDHALL_ROOMS_PER_HOST while others are empty: its version differs, or it leaves.",
					queries: []query{
						{`guildhall_host_rooms{namespace=~"$namespace"}`, "{{pod}}"},
						{`sum(namespace:guildhall_host_rooms:sum{namespace=~"$namespace"})`, "all"},
					},
				},
				{
					title: "Sessions", unit: "short",
					about: "Connections that have a seat, by host. A player may have eight in a room.",
					worry: "a fall that is no evening's end.",
					queries: []query{
						{`guildhall_host_sessions{namespace=~"$namespace"}`, "{{pod}}"},
						{`sum(namespace:guildhall_host_sessions:sum{namespace=~"$namespace"})`, "all"},
					},
				},
				{
					title: "Free rooms and headroom", unit: "short",
					about: "Rooms that could be opened without an allocation, as each director sees them, and how many it wants.",
					worry: "free below wanted for three minutes (GuildhallNoHeadroom): new groups wait for an allocation.",
					queries: []query{
						{`guildhall_director_free_rooms{namespace=~"$namespace"}`, "free {{pod}}"},
						{`max(guildhall_director_headroom_rooms{namespace=~"$namespace"})`, "wanted"},
					},
				},
				{
					title: "Idle hosts", unit: "short",
					about: "Allocated hosts without a room, as each director sees them: headroom, and what was allocated in vain.",
					worry: "more than the headroom needs, for longer than the idle grace of a minute.",
					queries: []query{
						{`guildhall_director_idle_hosts{namespace=~"$namespace"}`, "{{pod}}"},
					},
				},
			}},
			{title: "One room for each group", panels: []panel{
				{
					title: "Rooms lost to another claim", unit: "short",
					about: "In fifteen minutes, by the host's lease: lost (taken over while it had none, as it should be), held (nothing led to it).",
					worry: "any held (GuildhallSplitSuspected).",
					queries: []query{
						{`sum by (pod, lease) (increase(guildhall_host_fenced_rooms_total{namespace=~"$namespace"}[15m])) > 0`, "{{pod}} {{lease}}"},
					},
				},
				{
					title: "Suspended hosts", unit: "short",
					about: "Hosts whose lease may have run out: their rooms hold their members and ack nothing.",
					worry: "any with rooms, for 20 s (GuildhallHostsSuspended): hosts do not reach NATS.",
					queries: []query{
						{`guildhall_host_suspended{namespace=~"$namespace"} == 1`, "{{pod}}"},
					},
				},
				{
					title: "Leases lost", unit: "short",
					about: "In ten minutes, by host: cut off from NATS, or paused, for longer than 3 s.",
					worry: "three (GuildhallLeaseLosses).",
					queries: []query{
						{`increase(guildhall_host_lease_losses_total{namespace=~"$namespace"}[10m]) > 0`, "{{pod}}"},
					},
				},
				{
					title: "Audits and reaps that failed", unit: "percentunit",
					about: "The part of looks at the registry that failed: hosts check their claims once in 3 s, directors look for claims that nobody serves each 10 s.",
					worry: "half of them for two minutes (GuildhallAuditFailing), or all reaps for ten (GuildhallReaperFailing).",
					queries: []query{
						{`sum(rate(guildhall_host_audits_total{namespace=~"$namespace",outcome="failed"}[$__rate_interval])) / sum(rate(guildhall_host_audits_total{namespace=~"$namespace"}[$__rate_interval]))`, "audits of hosts"},
						{`sum(rate(guildhall_director_reaps_total{namespace=~"$namespace",outcome="failed"}[$__rate_interval])) / sum(rate(guildhall_director_reaps_total{namespace=~"$namespace"}[$__rate_interval]))`, "reaps of directors"},
					},
				},
			}},
			{title: "What was left behind", panels: []panel{
				{
					title: "Claims reaped", unit: "short",
					about: "In an hour, by why: dead_host (nobody came back to it), no_room (a director died, or NATS was away as a room ended).",
					worry: "more than hosts have died.",
					queries: []query{
						{`sum by (why) (increase(guildhall_director_reaped_claims_total{namespace=~"$namespace"}[1h]))`, "{{why}}"},
					},
				},
				{
					title: "Hosts that ended idle", unit: "short",
					about: "In an hour, by whether they ever had a room. One that had none was headroom that nobody kept, or a reply of Agones that was lost.",
					worry: "many that were never used.",
					queries: []query{
						{`sum by (used) (increase(guildhall_host_idle_shutdowns_total{namespace=~"$namespace"}[1h]))`, "used: {{used}}"},
					},
				},
				{
					title: "Why rooms ended", unit: "ops",
					about: "idle, moved (the host drained), fenced (another claim), broken (the log was purged or restored), cut_off.",
					worry: "fenced, broken or cut_off.",
					queries: []query{
						{`sum by (why) (rate(guildhall_host_ended_rooms_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{why}}"},
					},
				},
			}},
			{title: "Processes", panels: []panel{
				{
					title: "CPU", unit: "cores",
					about: "By pod, of hosts and services.",
					worry: "a pod at its limit: a host that is throttled loses its lease.",
					queries: []query{
						{`rate(process_cpu_seconds_total{namespace=~"$namespace"}[$__rate_interval]) and on (namespace, pod) guildhall_build_info`, "{{pod}}"},
					},
				},
				{
					title: "Memory", unit: "bytes",
					about: "Resident, by pod. An idle connection is 10 to 17 KiB of a host.",
					worry: "a pod near its limit.",
					queries: []query{
						{`process_resident_memory_bytes{namespace=~"$namespace"} and on (namespace, pod) guildhall_build_info`, "{{pod}}"},
					},
				},
				{
					title: "Goroutines", unit: "short",
					about: "By pod. A host has one for each room and one or two for each connection.",
					worry: "it grows while sessions do not.",
					queries: []query{
						{`go_goroutines{namespace=~"$namespace"} and on (namespace, pod) guildhall_build_info`, "{{pod}}"},
					},
				},
			}},
		},
	},
	{
		uid: "guildhall-delivery", title: "Guildhall / Delivery", about: "What is said, stored and told, and who does not keep up.",
		rows: []row{
			{title: "Said and told", panels: []panel{
				{
					title: "Messages", unit: "mps",
					about: "Messages that became durable, and repetitions that were only acked again.",
					worry: "many repetitions: clients come back again and again.",
					queries: []query{
						{`sum(rate(guildhall_host_messages_total{namespace=~"$namespace"}[$__rate_interval]))`, "durable"},
						{`sum(rate(guildhall_host_repeated_messages_total{namespace=~"$namespace"}[$__rate_interval]))`, "repeated"},
					},
				},
				{
					title: "Deliveries", unit: "ops",
					about: "Frames told to sessions; one holds all that happened since the last round.",
					worry: "nothing while messages are said.",
					queries: []query{
						{`sum(namespace:guildhall_host_deliveries:rate5m{namespace=~"$namespace"})`, "frames"},
					},
				},
				{
					title: "Deliveries for each CPU second", unit: "ops",
					about: "What a second of a host's processor delivers.",
					worry: "a fall with the load the same. Measured: 35,000 in small rooms, 95,000 and more in large ones.",
					queries: []query{
						{`sum(rate(guildhall_host_deliveries_total{namespace=~"$namespace"}[$__rate_interval])) / sum(rate(process_cpu_seconds_total{namespace=~"$namespace"}[$__rate_interval]) and on (namespace, pod) guildhall_host_rooms)`, "all hosts"},
					},
				},
				{
					title: "Telling a room, p99", unit: "s",
					about: "How long telling all sessions of a room took.",
					worry: "above 0.1 s: hosts have no CPU. Measured: 10 ms for 1,000 members.",
					queries: []query{
						{`histogram_quantile(0.99, sum by (le) (rate(guildhall_host_round_seconds_bucket{namespace=~"$namespace"}[$__rate_interval])))`, "p99"},
					},
				},
			}},
			{title: "The log", panels: []panel{
				{
					title: "Appending, p50 and p99", unit: "s",
					about: "From the append to its answer: what players wait for an ack, less the way.",
					worry: "p99 above 0.1 s: NATS is slow, or its disks. Measured: about a millisecond.",
					queries: []query{
						{`namespace:guildhall_host_append_seconds:p99_5m{namespace=~"$namespace"}`, "p99 {{namespace}}"},
						{`histogram_quantile(0.5, sum by (le) (rate(guildhall_host_append_seconds_bucket{namespace=~"$namespace",outcome="appended"}[$__rate_interval])))`, "p50"},
					},
				},
				{
					title: "Appends that failed", unit: "ops",
					about: "unanswered (tried again), fenced (a later epoch has the log), broken (the log is not as the host left it).",
					worry: "broken at all, or one of twenty appends (GuildhallAppendRefused).",
					queries: []query{
						{`sum by (why) (rate(guildhall_host_append_failures_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{why}}"},
					},
				},
				{
					title: "Part of appends that failed", unit: "percentunit",
					about: "Of all, within five minutes.",
					worry: "5 % for a minute (GuildhallAppendRefused).",
					queries: []query{
						{`namespace:guildhall_host_append_failures:ratio_rate5m{namespace=~"$namespace"}`, "{{namespace}}"},
					},
				},
				{
					title: "Entries swept", unit: "short",
					about: "In an hour: entries dropped because they were older than their kind keeps.",
					worry: "nothing for hours, where a kind has keep=.",
					queries: []query{
						{`sum(increase(guildhall_host_swept_entries_total{namespace=~"$namespace"}[1h]))`, "entries"},
					},
				},
			}},
			{title: "Backpressure", panels: []panel{
				{
					title: "Sessions dropped", unit: "ops",
					about: "By host: too much waited for a client (512 messages or 512 KiB). It comes back and resumes.",
					worry: "one host alone: its network. All of them: rooms that are too loud for their players.",
					queries: []query{
						{`sum by (pod, reason) (rate(guildhall_host_dropped_sessions_total{namespace=~"$namespace"}[$__rate_interval])) > 0`, "{{pod}} {{reason}}"},
					},
				},
				{
					title: "Part of sessions dropped", unit: "percentunit",
					about: "Of all sessions, within five minutes.",
					worry: "2 % for five minutes (GuildhallSlowConsumers).",
					queries: []query{
						{`namespace:guildhall_host_slow_consumers:ratio_increase5m{namespace=~"$namespace"}`, "{{namespace}}"},
					},
				},
				{
					title: "Messages refused", unit: "ops",
					about: "By code: the player's rate, a body that is too large, a room that waits for the log.",
					worry: "many for a room that is busy: the log does not keep up.",
					queries: []query{
						{`sum by (code) (rate(guildhall_host_refused_messages_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{code}}"},
					},
				},
				{
					title: "Signals", unit: "ops",
					about: "Typing, positions: passed, and dropped for the player's rate or because the room is suspended.",
					worry: "more dropped than passed.",
					queries: []query{
						{`sum by (outcome) (rate(guildhall_host_signals_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{outcome}}"},
					},
				},
			}},
			{title: "Leaving", panels: []panel{
				{
					title: "Sessions ended", unit: "ops",
					about: "By close code. LEFT is a goodbye or a connection that broke, MOVED a room that goes on elsewhere.",
					worry: "PASS_REFUSED, INTERNAL or PROTOCOL; SLOW_CONSUMER is above.",
					queries: []query{
						{`sum by (code) (rate(guildhall_host_closed_sessions_total{namespace=~"$namespace"}[$__rate_interval]))`, "{{code}}"},
					},
				},
			}},
		},
	},
	{
		uid: "guildhall-deploys", title: "Guildhall / Deploys", about: "What runs, and how rooms move while that changes.",
		rows: []row{
			{title: "Versions", panels: []panel{
				{
					title: "What runs", unit: "short",
					about: "Pods by part and version.",
					worry: "two versions long after a rollout. Hosts with rooms stay for as long as their rooms do.",
					queries: []query{
						{`count by (part, version) (guildhall_build_info{namespace=~"$namespace"})`, "{{part}} {{version}}"},
					},
				},
				{
					title: "Rooms by version", unit: "short",
					about: "Live rooms by the version of their host.",
					worry: "rooms stay on an old version: drain its hosts.",
					queries: []query{
						{`sum by (version) (guildhall_host_rooms{namespace=~"$namespace"} * on (namespace, pod) group_left (version) guildhall_build_info{part="roomserver"})`, "{{version}}"},
					},
				},
				{
					title: "Uptime", unit: "s",
					about: "How long each pod has run.",
					worry: "a pod that starts again and again.",
					queries: []query{
						{`time() - process_start_time_seconds{namespace=~"$namespace"} and on (namespace, pod) guildhall_build_info`, "{{pod}}"},
					},
				},
			}},
			{title: "Moving", panels: []panel{
				{
					title: "Rooms of draining hosts", unit: "short",
					about: "What a host that drains has not moved yet.",
					worry: "any for two minutes (GuildhallDrainStuck).",
					queries: []query{
						{`guildhall_host_rooms{namespace=~"$namespace"} and on (namespace, pod) guildhall_host_draining == 1`, "{{pod}}"},
					},
				},
				{
					title: "Rooms moved", unit: "ops",
					about: "Rooms that ended here to go on elsewhere.",
					worry: "many without a deploy.",
					queries: []query{
						{`sum(rate(guildhall_host_ended_rooms_total{namespace=~"$namespace",why="moved"}[$__rate_interval]))`, "moved"},
					},
				},
				{
					title: "Members sent to where the room is", unit: "ops",
					about: "Sessions closed with MOVED: their clients enter again and resume.",
					worry: "more than the rooms that move have members.",
					queries: []query{
						{`sum(rate(guildhall_host_closed_sessions_total{namespace=~"$namespace",code="CLOSE_CODE_MOVED"}[$__rate_interval]))`, "sessions"},
					},
				},
				{
					title: "Placements that waited for a move", unit: "ops",
					about: "Steps tried again because the room was on its way (moving) or its host was leaving (host_leaving).",
					worry: "they go on after the deploy.",
					queries: []query{
						{`sum by (reason) (rate(guildhall_director_place_retries_total{namespace=~"$namespace",reason=~"moving|host_leaving"}[$__rate_interval]))`, "{{reason}}"},
					},
				},
			}},
		},
	},
	{
		uid: "guildhall-openmatch", title: "Guildhall / Open Match", about: "The match function and the directors' calls, ours; and what Open Match 1.8 says of itself (telemetry.prometheus.enabled), not tried against a live one.", foreign: true,
		rows: []row{
			{title: "Ours", panels: []panel{
				{
					title: "FetchMatches", unit: "ops",
					about: "Directors' calls, by outcome.",
					worry: "failed: half of them for two minutes (GuildhallFetchFailing).",
					queries: []query{
						{`sum by (outcome) (rate(guildhall_director_fetches_total[$__rate_interval]))`, "{{outcome}}"},
					},
				},
				{
					title: "The match function, p99", unit: "s",
					about: "How long a run took, the query included.",
					worry: "above 0.2 s: Open Match's query service is slow, or has too many tickets.",
					queries: []query{
						{`histogram_quantile(0.99, sum by (le) (rate(guildhall_matchfunction_run_seconds_bucket[$__rate_interval])))`, "p99"},
					},
				},
				{
					title: "Tickets seen, matches proposed", unit: "ops",
					about: "By runs of the match function. Tickets that are not ours (foreign) are left alone.",
					worry: "tickets are seen and no match is proposed; or foreign ones, if Open Match is ours alone.",
					queries: []query{
						{`sum(rate(guildhall_matchfunction_tickets_total[$__rate_interval]))`, "tickets"},
						{`sum(rate(guildhall_matchfunction_matches_total[$__rate_interval]))`, "matches"},
						{`sum(rate(guildhall_matchfunction_foreign_tickets_total[$__rate_interval]))`, "foreign"},
					},
				},
				{
					title: "AssignTickets, p99", unit: "s",
					about: "How long assigning a batch took.",
					worry: "above 0.5 s: Redis.",
					queries: []query{
						{`histogram_quantile(0.99, sum by (le) (rate(guildhall_director_assign_seconds_bucket[$__rate_interval])))`, "p99"},
					},
				},
			}},
			{title: "Open Match", panels: []panel{
				{
					title: "Tickets", unit: "short",
					about: "As the query service sees them: active, and pending (handed out in a match).",
					worry: "active grows: nobody fetches. Pending grows: directors die between fetch and assignment.",
					queries: []query{
						{`max(open_match_dev_query_total_active_tickets)`, "active"},
						{`max(open_match_dev_query_total_pending_tickets)`, "pending"},
					},
				},
				{
					title: "Assigned and released", unit: "ops",
					about: "Tickets, as the backend counts them.",
					worry: "more released than assigned.",
					queries: []query{
						{`sum(rate(open_match_dev_backend_tickets_assigned[$__rate_interval]))`, "assigned"},
						{`sum(rate(open_match_dev_backend_tickets_released[$__rate_interval]))`, "released"},
					},
				},
				{
					title: "A synchronizer's cycle, p50", unit: "ms",
					about: "The clock of all matches: at least its registration interval, 250 ms as shipped, 20 ms in values/open-match.yaml.",
					worry: "several times the interval.",
					queries: []query{
						{`histogram_quantile(0.5, sum by (le) (rate(open_match_dev_synchronizer_iteration_latency_bucket[$__rate_interval])))`, "p50"},
					},
				},
				{
					title: "The query cache, p99", unit: "ms",
					about: "How long bringing the cache of tickets up to date took: a look at Redis.",
					worry: "above 100 ms.",
					queries: []query{
						{`histogram_quantile(0.99, sum by (le) (rate(open_match_dev_query_update_latency_bucket[$__rate_interval])))`, "p99"},
					},
				},
			}},
		},
	},
	{
		uid: "guildhall-agones", title: "Guildhall / Agones", about: "Allocations as directors see them, ours; and what Agones 1.56 says of the fleet, not tried against a live one.", foreign: true,
		rows: []row{
			{title: "Ours", panels: []panel{
				{
					title: "Allocations", unit: "ops",
					about: "By gRPC's code, into which replies of the Kubernetes API are translated. ResourceExhausted: none is Ready, or others' requests are in flight.",
					worry: "anything but OK for minutes.",
					queries: []query{
						{`sum by (code) (rate(guildhall_director_allocate_seconds_count[$__rate_interval]))`, "{{code}}"},
					},
				},
				{
					title: "An allocation, p99", unit: "s",
					about: "As directors wait for it. The allocator collects requests for half a second.",
					worry: "above 2 s.",
					queries: []query{
						{`histogram_quantile(0.99, sum by (le) (rate(guildhall_director_allocate_seconds_bucket[$__rate_interval])))`, "p99"},
					},
				},
				{
					title: "Headroom", unit: "ops",
					about: "Hosts allocated ahead of need, and idle ones asked to stay, by outcome.",
					worry: "failed, for longer than a machine takes to start.",
					queries: []query{
						{`sum by (outcome) (rate(guildhall_director_allocations_ahead_total[$__rate_interval]))`, "allocation {{outcome}}"},
						{`sum by (outcome) (rate(guildhall_director_keeps_total[$__rate_interval]))`, "keep {{outcome}}"},
					},
				},
				{
					title: "Credentials", unit: "s",
					about: "How long the certificates that the next connection would use are good. Empty without TLS.",
					worry: "a week (GuildhallCertificateExpiring).",
					queries: []query{
						{`min by (what) (guildhall_director_certificate_expiry_timestamp_seconds) - time()`, "{{what}}"},
					},
				},
			}},
			{title: "Agones", panels: []panel{
				{
					title: "Game servers", unit: "short",
					about: "By fleet and state.",
					worry: "none is Ready; or Unhealthy and Error stay.",
					queries: []query{
						{`sum by (fleet_name, type) (agones_gameservers_count)`, "{{fleet_name}} {{type}}"},
					},
				},
				{
					title: "Replicas of fleets", unit: "short",
					about: "desired, total, ready, allocated, reserved.",
					worry: "total below desired for minutes: pods do not start.",
					queries: []query{
						{`sum by (name, type) (agones_fleets_replicas_count)`, "{{name}} {{type}}"},
					},
				},
				{
					title: "The counter of rooms", unit: "short",
					about: "The Counter rooms over the fleet: how many there are and how many there could be.",
					worry: "the count is not that of Guildhall / Rooms and hosts.",
					queries: []query{
						{`sum by (name, type) (agones_fleet_counters{counter="rooms"})`, "{{name}} {{type}}"},
					},
				},
				{
					title: "The autoscaler", unit: "short",
					about: "What it wants and what there is; limited is 1 when it wants more than maxReplicas or maxCapacity.",
					worry: "limited: raise the bound. Not able to scale: it does not reach the fleet.",
					queries: []query{
						{`sum by (name) (agones_fleet_autoscalers_desired_replicas_count)`, "desired {{name}}"},
						{`sum by (name) (agones_fleet_autoscalers_current_replicas_count)`, "current {{name}}"},
						{`max by (name) (agones_fleet_autoscalers_limited)`, "limited {{name}}"},
						{`min by (name) (agones_fleet_autoscalers_able_to_scale)`, "able to scale {{name}}"},
					},
				},
			}},
			{title: "Agones' side of allocations", panels: []panel{
				{
					title: "Allocations by status", unit: "ops",
					about: "As Agones counts them, by fleet.",
					worry: "UnAllocated or Contention for minutes.",
					queries: []query{
						{`sum by (fleet_name, status) (rate(agones_gameserver_allocations_duration_seconds_count[$__rate_interval]))`, "{{fleet_name}} {{status}}"},
					},
				},
				{
					title: "Time in a state, p50", unit: "s",
					about: "How long game servers were in each state before the next. Agones leaves some out.",
					worry: "Creating, Starting or Scheduled for minutes: images are pulled anew, or nodes have to start.",
					queries: []query{
						{`histogram_quantile(0.5, sum by (type, le) (rate(agones_gameserver_state_duration_bucket[$__rate_interval])))`, "{{type}}"},
					},
				},
			}},
		},
	},
	{
		uid: "guildhall-nats", title: "Guildhall / NATS", about: "What NATS's own exporter says (promExporter of the official chart, prefix nats), not tried against a live one; and what hosts see of it, ours.", foreign: true,
		rows: []row{
			{title: "As hosts see it", panels: []panel{
				{
					title: "Appending, p99", unit: "s",
					about: "By namespace of the hosts.",
					worry: "above 0.1 s.",
					queries: []query{
						{`namespace:guildhall_host_append_seconds:p99_5m`, "{{namespace}}"},
					},
				},
				{
					title: "Suspended hosts", unit: "short",
					about: "Hosts without a lease: they do not reach NATS, or nobody there answers.",
					worry: "all of them: NATS has no leader, or no disk.",
					queries: []query{
						{`sum by (namespace) (guildhall_host_suspended)`, "{{namespace}}"},
					},
				},
			}},
			{title: "Servers", panels: []panel{
				{
					title: "CPU", unit: "percent",
					about: "By server, in hundredths of a core.",
					worry: "at the container's limit.",
					queries: []query{
						{`nats_varz_cpu`, "{{server_id}}"},
					},
				},
				{
					title: "Memory", unit: "bytes",
					about: "By server.",
					worry: "near the container's limit.",
					queries: []query{
						{`nats_varz_mem`, "{{server_id}}"},
					},
				},
				{
					title: "Messages in and out", unit: "mps",
					about: "By server.",
					worry: "one server has none: its connections have gone elsewhere.",
					queries: []query{
						{`rate(nats_varz_in_msgs[$__rate_interval])`, "in {{server_id}}"},
						{`rate(nats_varz_out_msgs[$__rate_interval])`, "out {{server_id}}"},
					},
				},
				{
					title: "Connections and slow consumers", unit: "short",
					about: "Each pod of ours has one connection. A slow consumer is one that NATS has cut off.",
					worry: "any slow consumer: a pod of ours without CPU.",
					queries: []query{
						{`nats_varz_connections`, "connections {{server_id}}"},
						{`increase(nats_varz_slow_consumers[15m]) > 0`, "slow {{server_id}}"},
					},
				},
			}},
			{title: "JetStream", panels: []panel{
				{
					title: "Storage used", unit: "percentunit",
					about: "Of what JetStream may store, by server.",
					worry: "80 %: a full store takes no appends, and all rooms pause.",
					queries: []query{
						{`nats_server_total_message_bytes / (nats_server_max_storage > 0)`, "{{server_name}}"},
					},
				},
				{
					title: "Streams", unit: "bytes",
					about: "Bytes of each stream, as its leader says: the log (guildhall_log_N), claims, leases and bans.",
					worry: "a log that grows faster than its kinds keep.",
					queries: []query{
						{`sum by (stream_name) (nats_stream_total_bytes{is_stream_leader="true"})`, "{{stream_name}}"},
					},
				},
				{
					title: "Messages in streams", unit: "short",
					about: "As each leader says.",
					worry: "claims or leases in the thousands more than there are groups and hosts.",
					queries: []query{
						{`sum by (stream_name) (nats_stream_total_messages{is_stream_leader="true"})`, "{{stream_name}}"},
					},
				},
				{
					title: "Leaders", unit: "short",
					about: "Servers that say of a stream that they lead it, by stream: one each.",
					worry: "a stream with none.",
					queries: []query{
						{`count by (stream_name) (nats_stream_last_seq{is_stream_leader="true"})`, "{{stream_name}}"},
					},
				},
			}},
		},
	},
}
