// Package agones holds what Guildhall relies on in Agones, as tests over the wire. By default they ask the
// stand-in, internal/agoneslocal. They ask real parts where these variables name one:
//
//	GUILDHALL_TEST_AGONES_ALLOCATOR  host:port of an allocator service
//	GUILDHALL_TEST_AGONES_TLS_DIR    a folder with ca.crt, tls.crt and tls.key; without it, plaintext
//	GUILDHALL_TEST_AGONES_NAMESPACE  the fleet's namespace, "default" if unset
//	GUILDHALL_TEST_AGONES_FLEET      the fleet; its Ready game servers are used up, a few for each test
//	GUILDHALL_TEST_AGONES_SDK        host:port of a sidecar, in a cluster or in its local mode
//
// A test that cannot be asked of a real part skips and says why.
package agones
