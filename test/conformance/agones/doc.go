// Package agones holds what Guildhall relies on in Agones, as tests over the wire. By default they ask the
// stand-in, internal/agoneslocal. They ask real parts where these variables name one:
//
//	GUILDHALL_TEST_AGONES_ALLOCATOR  host:port of an allocator service
//	GUILDHALL_TEST_AGONES_TLS_DIR    a folder with ca.crt, tls.crt and tls.key; without it, plaintext
//	GUILDHALL_TEST_AGONES_KUBERNETES https://host:port of the API of a cluster with Agones, and
//	GUILDHALL_TEST_AGONES_KUBERNETES_TOKEN, GUILDHALL_TEST_AGONES_KUBERNETES_CA  the files with a token and the CA for it
//	GUILDHALL_TEST_AGONES_NAMESPACE  the fleet's namespace, "default" if unset
//	GUILDHALL_TEST_AGONES_FLEET      the fleet; its Ready game servers are used up, a few for each test
//	GUILDHALL_TEST_AGONES_SDK        host:port of a sidecar, in a cluster or in its local mode
//
// A test that cannot be asked of a real part skips and says why.
//
// What is held, call by call:
//
//	Allocate             a Ready game server: name, address, ports, node, metadata   TestAllocation
//	                     to one caller each, also of many at once                    TestAReadyServerIsGivenOnce
//	                     none: ResourceExhausted, with its words                     TestNoServerIsResourceExhausted
//	                     which does not mean full                                    TestExhaustedDoesNotMeanFull
//	                     invalid: code 422, which gRPC does not have                 TestInvalidRequestsAreCode422
//	                     selectors, in order; they hold no server for a group        TestAnAllocatedServerIsFoundAgain,
//	                                                                                 TestSelectorsDoNotHoldOneServerForAGroup,
//	                                                                                 TestListAndCounterSelectors
//	                     deprecated fields                                           TestDeprecatedFields
//	                     actions: bounds hold, what goes beyond is dropped silently  TestCounterAndListActions
//	                     priorities and scheduling                                   TestPrioritiesDecideAmongServers
//	                     not Allocated, Reserved or ended ones                       TestServersThatAreNotReadyAreNotGiven
//	                     grpc.health.v1                                              TestAllocatorHasAHealthService
//	GetGameServer        meta, health, state, address, ports                         TestGetGameServer
//	WatchGameServer      begins with what is, then each change                       TestWatchBeginsWithTheCurrentState
//	                     state and labels of an allocation                           TestGameServerSeesItsAllocation
//	Ready, Allocate      from whichever state; labels and lists stay                 TestReadyAndAllocate,
//	                                                                                 TestReadyAfterAllocatedKeepsLabelsAndLists,
//	                                                                                 TestReadyAgainCanBeAllocatedAgain
//	Reserve              for a time, ended by Allocate                               TestReservedForATime, TestAllocateEndsAReservation
//	Health               a stream that takes signs of life                           TestHealthStream
//	Shutdown             the state, then SIGTERM, then a successor                   TestShutdown,
//	                                                                                 TestShutdownBringsSIGTERMAndASuccessor
//	SetLabel,            behind the SDK's prefix; invalid: InvalidArgument           TestMetadataGetsThePrefix,
//	SetAnnotation                                                                    TestInvalidMetadataIsRefused
//	GetCounter,          sets, counts, keeps its bounds; count and capacity in one   TestCounter…, TestCountAndCapacityInOneCall,
//	UpdateCounter                                                                    TestUpdateOfNothingIsRefused
//	GetList, UpdateList, each value once, cut to the capacity, replaced              TestList…, TestWrongListUpdatesAreRefused
//	AddListValue,
//	RemoveListValue
//	all of beta          missing: Unknown, with its words                            TestWhatIsMissingIsRefused
//	                     shown in the status and by the watch                        TestCountersAndListsAreInTheStatus,
//	                                                                                 TestCounterReachesTheWatch
//
// Not held: the alpha SDK (player tracking), the routes of HTTP of the sidecar, and what needs a cluster: rollouts with
// their allocationOverflow, contention between allocators, multi-cluster allocation.
package agones
