package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// The program runs itself again, once per node: one process per namespace is how it is in production.
const roleVariable = "SPILLWAY_BENCH_DEVICE_CHILD"

const port = 51820

// The kinds of nodes.
const (
	kindBare  = "wireguard-go"
	kindOurs  = "spillway"
	kindSwarm = "swarm" // many devices without links
)

// spec says what a child is to be.
type spec struct {
	Kind  string
	Key   wgtypes.Key
	Outer string // address of eth0, with length
	Inner string // address of the device, with length
	Peers []peer
	Swarm []wgtypes.Key // one device each, of which Peers[0] is the peer
}

type peer struct {
	Key      wgtypes.Key
	Endpoint string
	Allowed  string
}

// child is a process in network and mount namespaces of its own.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startChild(ctx context.Context) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, "/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), roleVariable+"=1")
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a node (this needs root): %w", err)
	}
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// ask sends a line and returns the line that comes back.
func (c *child) ask(question string) (string, error) {
	if _, err := fmt.Fprintln(c.in, question); err != nil {
		return "", err
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("node ended: %w", err)
	}
	line = strings.TrimSpace(line)
	if text, failed := strings.CutPrefix(line, "error: "); failed {
		return "", errors.New(text)
	}
	return line, nil
}

func (c *child) setUp(s spec) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = c.ask("setup " + string(data))
	return err
}

// join puts a pair of links eth0 between two nodes.
func join(a, b *child) error {
	v := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "eth0", MTU: 1500, Namespace: netlink.NsPid(a.pid())},
		PeerName:  "eth0", PeerNamespace: netlink.NsPid(b.pid()),
	}
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("join two nodes: %w", err)
	}
	return nil
}
