package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// request is one line of the control socket; the supervisor sends exactly one answer.
type request struct {
	verb, component string
	answer          chan error
}

// serveControl listens on the control socket and hands each request to the supervisor.
func serveControl(requests chan<- request) error {
	if err := os.Remove(nodespec.ControlSocket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old control socket: %w", err)
	}
	l, err := net.Listen("unix", nodespec.ControlSocket)
	if err != nil {
		return fmt.Errorf("open control socket: %w", err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go answer(conn, requests)
		}
	}()
	return nil
}

func answer(conn net.Conn, requests chan<- request) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return
	}
	verb, name, _ := strings.Cut(strings.TrimSpace(line), " ")
	if verb == nodespec.VerbDial {
		dial(conn, name)
		return
	}
	if verb != nodespec.VerbKill && verb != nodespec.VerbRestart {
		fmt.Fprintf(conn, "unknown verb %q\n", verb)
		return
	}
	r := request{verb: verb, component: name, answer: make(chan error, 1)}
	requests <- r
	if err := <-r.answer; err != nil {
		fmt.Fprintln(conn, err)
		return
	}
	fmt.Fprintln(conn, "ok")
}
