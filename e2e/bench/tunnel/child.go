package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// roleVariable is set where the program runs as a child: one process per network namespace, as in production.
const roleVariable = "SPILLWAY_BENCH_TUNNEL_CHILD"

// child is a process in network and mount namespaces of its own.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
	h   *netlink.Handle // of its network namespace
}

func startChild(ctx context.Context) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, "/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), roleVariable+"=1")
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Setpgid: true}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	c.out = json.NewDecoder(bufio.NewReader(out))
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	ns, err := netns.GetFromPid(c.pid())
	if err == nil {
		defer ns.Close()
		c.h, err = netlink.NewHandleAt(ns)
	}
	if err == nil {
		_, err = c.ask(order{}) // it is there
	}
	if err == nil {
		err = c.up("lo")
	}
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("enter the network of a node: %w", err)
	}
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) stop() {
	if c.h != nil {
		c.h.Close()
	}
	_ = c.in.Close()
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// freeze keeps a child from using the processor while others are measured.
func (c *child) freeze() error { return c.cmd.Process.Signal(syscall.SIGSTOP) }
func (c *child) thaw() error   { return c.cmd.Process.Signal(syscall.SIGCONT) }

// ask gives an order and waits for the answer.
func (c *child) ask(o order) (answer, error) {
	var a answer
	if err := json.NewEncoder(c.in).Encode(o); err != nil {
		return a, fmt.Errorf("give an order to a node: %w", err)
	}
	if err := c.out.Decode(&a); err != nil {
		return a, fmt.Errorf("read the answer of a node: %w", err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (c *child) up(name string) error {
	l, err := c.h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	return c.h.LinkSetUp(l)
}

// address gives a link a prefix.
func (c *child) address(name string, p netip.Prefix) error {
	l, err := c.h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	a, err := netlink.ParseAddr(p.String())
	if err != nil {
		return err
	}
	a.Flags = unix.IFA_F_NODAD
	if err := c.h.AddrAdd(l, a); err != nil {
		return fmt.Errorf("give %s to %s: %w", p, name, err)
	}
	return nil
}

// path is a route; Via and MTU may be zero.
type path struct {
	dst  netip.Prefix
	via  netip.Addr
	link string
	mtu  int
}

func (c *child) route(p path) error {
	l, err := c.h.LinkByName(p.link)
	if err != nil {
		return fmt.Errorf("find link %s: %w", p.link, err)
	}
	dst, err := netlink.ParseIPNet(p.dst.String())
	if err != nil {
		return err
	}
	r := &netlink.Route{Dst: dst, LinkIndex: l.Attrs().Index, MTU: p.mtu}
	if p.via.IsValid() {
		r.Gw = p.via.AsSlice()
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := c.h.RouteReplace(r); err != nil {
		return fmt.Errorf("route %s over %s: %w", p.dst, p.link, err)
	}
	return nil
}

// plug joins two children with a pair of links.
func plug(a *child, nameA string, b *child, nameB string) error {
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA, MTU: underlayMTU}, PeerName: nameB, PeerNamespace: netlink.NsPid(b.pid())}
	if err := a.h.LinkAdd(v); err != nil {
		return fmt.Errorf("join two nodes: %w", err)
	}
	return errors.Join(a.up(nameA), b.up(nameB))
}
