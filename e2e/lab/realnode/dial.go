package realnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// Dial connects over TCP with an address, IP:PORT, as a program of the node does: a pod of its cluster, a Service, another node. The
// connection ends with the node. ErrNotRunning says that the node cannot be asked; another one of its cluster may know the way.
func (ns *Nodes) Dial(ctx context.Context, node, address string) (net.Conn, error) {
	return ns.ask(ctx, node, nodespec.VerbDial, address)
}

// askWithin bounds what a node does for a request; the connection itself may last.
const askWithin = 30 * time.Second

// ask sends a request to the node's first process and waits for its ok. The caller owns the connection.
func (ns *Nodes) ask(ctx context.Context, node, verb, what string) (net.Conn, error) {
	pid, err := ns.PID(node)
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	// Through the node's own root: short enough for a socket's address, wherever the lab's directory is.
	conn, err := dialer.DialContext(ctx, "unix", filepath.Join("/proc", strconv.Itoa(pid), "root", nodespec.ControlSocket))
	if err != nil {
		return nil, fmt.Errorf("reach node %s: %w", node, errors.Join(ErrNotRunning, err))
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := errors.Join(conn.SetDeadline(time.Now().Add(askWithin)), converse(conn, verb, what), conn.SetDeadline(time.Time{})); err != nil {
		return nil, errors.Join(fmt.Errorf("%s %s on node %s: %w", verb, what, node, err), conn.Close())
	}
	return conn, nil
}

// converse says one line and reads one, and not a byte more: what follows is not ours.
func converse(conn net.Conn, verb, what string) error {
	if _, err := fmt.Fprintln(conn, verb, what); err != nil {
		return err
	}
	var answer []byte
	for one := make([]byte, 1); one[0] != '\n'; {
		if _, err := conn.Read(one); err != nil {
			return err
		}
		answer = append(answer, one[0])
	}
	if words := string(answer[:len(answer)-1]); words != "ok" {
		return errors.New(words)
	}
	return nil
}
