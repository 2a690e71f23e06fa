package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spillway-dev/spillway/internal/netbench"
)

// place is two gateways that are joined by a pair of links, each with a pod behind it; one side may have an ordinary
// node with another pod too. Every one is a process in a network of its own.
type place struct {
	sides    [2]cluster
	gateways [2]*child
	pods     [2]*child
	node     *child // of the first side; nil: none
	nodePod  *child
	all      []*child
}

// kind says what joins the gateways of a place.
type kind struct {
	bare    bool // wireguard-go as it comes, and plain routes
	overlap bool // both sides have the same range of pods
	node    bool // there is an ordinary node
	peers   int  // of each gateway, all but one silent
}

func openPlace(ctx context.Context, k kind) (*place, error) {
	p := &place{}
	err := p.open(ctx, k)
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *place) open(ctx context.Context, k kind) error {
	var err error
	if p.sides, err = newClusters(k.overlap); err != nil {
		return err
	}
	for i := range p.gateways {
		if p.gateways[i], err = p.start(ctx); err != nil {
			return err
		}
	}
	if err := p.joinGateways(); err != nil {
		return err
	}
	for i, gateway := range p.gateways {
		if p.pods[i], err = p.addPod(ctx, gateway, p.sides[i], 0); err != nil {
			return err
		}
	}
	if k.node {
		if err := p.addNode(ctx); err != nil {
			return err
		}
	}
	if k.bare {
		err = p.tunnelBare()
	} else {
		err = p.tunnelOurs(k.peers)
	}
	for _, c := range p.all {
		if err == nil {
			_, err = c.ask(order{Serve: true})
		}
	}
	return err
}

func (p *place) start(ctx context.Context) (*child, error) {
	c, err := startChild(ctx)
	if err == nil {
		p.all = append(p.all, c)
	}
	return c, err
}

func (p *place) close() {
	for _, c := range p.all {
		c.stop()
	}
}

func (p *place) freeze() error { return p.each((*child).freeze) }
func (p *place) thaw() error   { return p.each((*child).thaw) }

func (p *place) each(do func(*child) error) error {
	var all []error
	for _, c := range p.all {
		all = append(all, do(c))
	}
	return errors.Join(all...)
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func (p *place) joinGateways() error {
	if err := plug(p.gateways[0], "eth0", p.gateways[1], "eth0"); err != nil {
		return err
	}
	for i, gateway := range p.gateways {
		if err := gateway.address("eth0", single(p.sides[i].nodes[0])); err != nil {
			return err
		}
		if err := gateway.route(path{dst: single(p.sides[1-i].nodes[0]), link: "eth0"}); err != nil {
			return err
		}
	}
	return nil
}

// addPod plugs a pod into a node, as a CNI does that routes.
func (p *place) addPod(ctx context.Context, node *child, side cluster, number int) (*child, error) {
	pod, err := p.start(ctx)
	if err != nil {
		return nil, err
	}
	if err := plug(node, "pod0", pod, "eth0"); err != nil {
		return nil, err
	}
	bits := side.podRange(number).Bits()
	entry := side.pod(number).Prev()
	if err := node.address("pod0", netip.PrefixFrom(entry, bits)); err != nil {
		return nil, err
	}
	if err := pod.address("eth0", netip.PrefixFrom(side.pod(number), bits)); err != nil {
		return nil, err
	}
	return pod, pod.route(path{dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), via: entry, link: "eth0"})
}

// addNode gives the first side an ordinary node, with a link to the gateway.
func (p *place) addNode(ctx context.Context) error {
	side := &p.sides[0]
	side.nodes = append(side.nodes, host(side.hosts, 11))
	var err error
	if p.node, err = p.start(ctx); err != nil {
		return err
	}
	if err := plug(p.gateways[0], "lan0", p.node, "eth0"); err != nil {
		return err
	}
	if err := p.node.address("eth0", single(side.nodes[1])); err != nil {
		return err
	}
	if err := p.node.route(path{dst: single(side.nodes[0]), link: "eth0"}); err != nil {
		return err
	}
	if err := p.gateways[0].route(path{dst: single(side.nodes[1]), link: "lan0"}); err != nil {
		return err
	}
	p.nodePod, err = p.addPod(ctx, p.node, *side, 1)
	return err
}

// bareAddr is the address of a gateway inside the tunnel of wireguard-go.
func bareAddr(side int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(1 + side)}) }

func (p *place) tunnelBare() error {
	for i, gateway := range p.gateways {
		other := p.sides[1-i]
		device := &bareDevice{
			Key: p.sides[i].key, Peer: other.key.PublicKey(), MTU: innerMTU,
			Endpoint: netip.AddrPortFrom(other.nodes[0], wireguardPort), Allowed: []netip.Prefix{single(bareAddr(1 - i)), other.pods},
		}
		if _, err := gateway.ask(order{Bare: device}); err != nil {
			return err
		}
		if err := gateway.address(bareLink, netip.PrefixFrom(bareAddr(i), 24)); err != nil {
			return err
		}
		if err := gateway.up(bareLink); err != nil {
			return err
		}
		if err := gateway.route(path{dst: other.pods, link: bareLink}); err != nil {
			return err
		}
		// So that its TCP need not find out what fits.
		way := path{dst: other.pods, via: p.sides[i].pod(0).Prev(), link: "eth0", mtu: innerMTU}
		if err := p.pods[i].route(way); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) tunnelOurs(peers int) error {
	for i, gateway := range p.gateways {
		t := p.sides[i].topology(p.sides[1-i], 0)
		silent, err := p.sides[i].crowd(max(peers-1, 0))
		if err != nil {
			return err
		}
		t.Peers = append(t.Peers, silent...)
		if _, err := gateway.ask(order{Topology: &t}); err != nil {
			return fmt.Errorf("set up gateway %d: %w", i, err)
		}
	}
	if p.node == nil {
		return nil
	}
	t := p.sides[0].topology(p.sides[1], 1)
	if _, err := p.node.ask(order{Topology: &t}); err != nil {
		return fmt.Errorf("set up the ordinary node: %w", err)
	}
	return nil
}

// ends of what is measured in a place.
type ends int

const (
	podToPod ends = iota
	gatewayToGateway
	nodePodToPod
)

// measure runs netbench from one end to the other.
func (p *place) measure(from ends, bare bool, o options) (netbench.Result, error) {
	client, target := p.pods[0], p.sides[1].podAs(0)
	switch {
	case from == gatewayToGateway && bare:
		client, target = p.gateways[0], bareAddr(1)
	case from == gatewayToGateway:
		client, target = p.gateways[0], p.sides[1].nodeAs(0)
	case from == nodePodToPod:
		client = p.nodePod
	}
	a, err := client.ask(order{Measure: &netbench.Options{
		Target: netip.AddrPortFrom(target, netbench.DefaultPort), Duration: o.duration, Count: o.count, Wait: 20 * time.Second,
	}})
	return a.Result, err
}
