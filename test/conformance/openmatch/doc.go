// Package openmatch holds Open Match's contract as far as Guildhall relies on it, as tests over the wire.
//
// It runs against the stand-in, internal/openmatchlocal, and against a real Open Match when these are set:
//
//	GUILDHALL_TEST_OPENMATCH_FRONTEND, _BACKEND, _QUERY   host:port of each service
//	GUILDHALL_TEST_OPENMATCH_MATCHFUNCTION_ADVERTISE      host:port where the suite listens for calls of its
//	                                                      match function (default 127.0.0.1:0)
//	GUILDHALL_TEST_OPENMATCH_PENDING_RELEASE,             the server's pendingReleaseTimeout and
//	_ASSIGNED_DELETE                                      assignedDeleteTimeout, as durations; without one,
//	                                                      tests of it skip
//	GUILDHALL_TEST_OPENMATCH_PAGE_SIZE                    the server's queryPageSize; the test of it files
//	                                                      twice as many tickets, and skips without
//
// Tests use tags of their own, so what others left on the server does not matter. They wait by asking again
// through the API, never by the clock. A test that does not call t.Parallel would disturb its neighbours: it
// releases everybody's tickets, or cancels a cycle that all share.
//
// What is held, call by call:
//
//	CreateTicket         no ticket, an assignment, a create time: InvalidArgument    TestCreateTicketRefuses
//	                     id and create time are the server's, the rest comes back    TestCreateTicketReturnsItAll
//	GetTicket            missing: NotFound, with its words                           TestGetTicketThatIsNotThere
//	DeleteTicket         unknown: OK                                                 TestDeleteTicketThatIsNotThere
//	                     out of the pools when it returns, gone soon after           TestDeleteTicket
//	WatchAssignments     only assignments, and only different ones; stays open       TestWatchAssignmentsSendsChanges,
//	                                                                                 …SeesExtensionsChange
//	                     missing, deleted, expired: NotFound                         …OfNoTicket, …OfADeletedTicket,
//	                                                                                 TestAssignedTicketsExpire
//	                     ends with its caller                                        …EndsWithItsCaller
//	FetchMatches         no config, no profile: InvalidArgument                      TestFetchMatchesRefuses
//	                     nothing: a clean end                                        TestFetchMatchesOfAnEmptyPoolEndsCleanly
//	                     other errors: Unknown, with both causes                     TestFetchMatchesWhoseFunction…
//	                     a match id twice ends the call                              TestFetchMatchesWithOneMatchIDTwice
//	                     profile and proposal pass whole                             …PassesTheProfileOn, …GivesTheProposalWhole
//	                     fetched tickets are pending, in no other fetch              TestFetchedTicketsArePending,
//	                                                                                 TestConcurrentFetchesShareNoTicket
//	                     pending ends by pendingReleaseTimeout                       TestPendingTicketsComeBack
//	                     the default evaluator: best score first, no overlap         TestOverlappingProposals,
//	                                                                                 TestProposalWithUnreadableScoreIsDropped
//	AssignTickets        a ticket twice, a group without: InvalidArgument            TestAssignTicketsRefuses, …RefusedAssignsNothing
//	                     missing tickets are failures, the rest is assigned          TestAssignTicketsInPart
//	                     overwrites                                                  TestAssignTicketsOverwrites
//	                     assigned tickets leave the pools for good                   TestAssignedTicketsLeaveThePools
//	                     and are deleted by assignedDeleteTimeout                    TestAssignedTicketsExpire
//	ReleaseTickets       back into the pools; unknown ids: OK                        TestReleaseTickets, …ThatAreNotThere
//	ReleaseAllTickets    all of them                                                 TestReleaseAllTickets
//	QueryTickets         no pool, no time: InvalidArgument                           TestQueriesRefuse
//	                     pages of queryPageSize                                      TestQueryTicketsInPages
//	                     of any size in bytes, beyond gRPC's default of 4 MiB        TestPageBeyondTheDefaultOfClients
//	QueryTicketIds       the same tickets                                            TestQueryTicketIds
//	QueryBackfills       by the same filters                                         TestPoolFiltersOnBackfills
//	pools                all filters together; ranges with their ends, times without TestPoolFiltersOnTickets
//	…Backfill            create, get, update, delete, and what each refuses          TestCreateBackfillRefuses,
//	                                                                                 TestOtherBackfillCallsRefuse,
//	                                                                                 TestBackfillIsCreatedReadUpdatedDeleted
//	                     opened and filled by matches, by generation                 TestMatchOpensABackfill, …FillsABackfill,
//	                                                                                 …OfAnOldGenerationIsDropped, …OfALostBackfillIsDropped
//	                     gives its tickets back                                      TestUpdatedBackfillGivesItsTicketsBack,
//	                                                                                 TestDeletedBackfillGivesItsTicketsBack
//	AcknowledgeBackfill  assigns its tickets once; unacknowledged, it expires        TestMatchOpensABackfill,
//	                                                                                 TestUnacknowledgedBackfillExpires
//	MatchFunction.Run    called with the profile, over gRPC                          all that fetch; ours: matchfunction
//
// Not held: Evaluator and Synchronizer, which Guildhall does not speak, the routes of HTTP, and the code that a server
// gives a watch whose caller has gone, which no caller sees.
package openmatch
