package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// dialWithin is how long an address of the cluster may take to answer.
const dialWithin = 10 * time.Second

// dial connects the caller with an address as this node reaches it. It ends with the node: a killed one holds no connection, and so no
// network namespace.
func dial(caller net.Conn, address string) {
	far, err := net.DialTimeout("tcp", address, dialWithin)
	if err != nil {
		fmt.Fprintln(caller, err)
		return
	}
	defer far.Close()
	fmt.Fprintln(caller, "ok")
	if err := caller.SetDeadline(time.Time{}); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { pass(far, caller) })
	pass(caller, far)
	both.Wait()
}

// pass copies until the end of from, and tells to that there is no more.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from) // either end may go at any time
	if w, ok := to.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}
