// Package leader lets one of several replicas work at a time, and the next one begin at once where the last has ended.
//
// Who works is said by a Lease, as client-go's leader election has it: a leader that is not heard of is replaced when the Lease has
// expired. That is long, so that an API server that is slow for some seconds ends no term. It is shortened by evidence: a replica
// that stands by keeps a request open at the leader ([Candidate.ServeHTTP]), which the leader answers when its term is over. A leader
// that is told to stop ends its work, gives the Lease back and answers. One that is killed answers no more, and its machine says so
// at once: the stream ends and nobody listens where it came from. Then, and only then, another takes the Lease away from it.
// A machine or network that fails says nothing; there the Lease has to expire.
//
// Two never work at once: the Lease is given back after the work has ended; it is taken away with the version that was read before
// the evidence was gathered, so that a leader that has come back in between keeps it; a leader that finds it taken stops at once,
// and ends its process if the work does not end in time.
//
//	c, err := leader.New(leader.Config{Client: client, Namespace: "spillway-system", Lease: "spillwayd", Identity: podName, Port: 9641, Log: log})
//	mux.Handle("GET "+leader.Path, c)
//	err = c.Run(ctx, work)
package leader
