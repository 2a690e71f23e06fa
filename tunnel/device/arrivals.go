package device

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/device"
)

// arrivals counts the packets that come to the UDP port of a kernel device. The kernel drops most of what it refuses
// without a word; what arrived and is not among the received packets of the link was refused.
type arrivals struct {
	port     uint16
	accepted uint64 // by the device when counting began
}

// CountingTable is the name of the nftables table of family inet in which a kernel device of that name has its packets
// counted. It goes with Close; who removes a device that an earlier process left removes it too.
func CountingTable(device string) string { return "spillway-count-" + device }

// CountArrivals has the packets to a kernel device's UDP port counted, which Refused needs to know of more than foreign
// sources. Call it after the port was configured, and as often as you like: it writes only what is missing. For a
// userspace device, or port 0, it does nothing.
func (d *Device) CountArrivals(port uint16) error {
	if !d.kernel || port == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.netNS.run(func() error {
		if d.arrivals != nil && d.arrivals.port == port {
			if _, err := d.arrived(); err == nil {
				return nil
			}
		}
		accepted, _, err := d.linkCounts()
		if err != nil {
			return err
		}
		if err := d.replaceTable(port); err != nil {
			return fmt.Errorf("count the packets to device %s: %w", d.name, err)
		}
		d.arrivals = &arrivals{port: port, accepted: accepted}
		d.refused.restart()
		return nil
	})
}

// linkCounts are the packets that the kernel's device took, of whatever type, and those it refused and counts itself.
func (d *Device) linkCounts() (accepted uint64, own Refused, err error) {
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return 0, own, fmt.Errorf("read the counters of device %s: %w", d.name, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return 0, own, fmt.Errorf("read the counters of device %s: there are none", d.name)
	}
	return s.RxPackets + s.RxErrors, Refused{Sources: s.RxFrameErrors, Data: s.RxErrors - min(s.RxErrors, s.RxFrameErrors)}, nil
}

// kernelRefused reads what is known of a kernel device.
func (d *Device) kernelRefused(now time.Time) Refused {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out Refused
	_ = d.netNS.run(func() error { // zero when the link is gone
		_, own, err := d.linkCounts()
		out = own
		if err != nil || d.arrivals == nil {
			return err
		}
		for range samples {
			came, err := d.arrived()
			if err != nil {
				return err // somebody removed the table; CountArrivals makes it again
			}
			accepted, _, err := d.linkCounts()
			if err != nil {
				return err
			}
			accepted -= d.arrivals.accepted
			d.refused.lower(came - min(came, accepted))
		}
		out.Data += d.refused.settled(now)
		return nil
	})
	return out
}

// samples in a row: packets that are on their way through the device at one are not at another.
const samples = 3

func (d *Device) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: CountingTable(d.name)}
}

func (d *Device) chain(table *nftables.Table) *nftables.Chain {
	priority := nftables.ChainPriority(*nftables.ChainPriorityFilter + 100) // what a firewall drops does not arrive
	return &nftables.Chain{Name: "arrivals", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookInput, Priority: &priority}
}

// replaceTable begins to count at zero.
func (d *Device) replaceTable(port uint16) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(d.table()) // so that there is one to remove
	conn.DelTable(table)
	table = conn.AddTable(d.table())
	chain := conn.AddChain(d.chain(table))
	toPort := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
	// Cookies are not counted by the device either.
	notCookie := []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 8, Len: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{device.MessageCookieReplyType}},
	}
	conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(append(toPort, notCookie...), &expr.Counter{})})
	return conn.Flush()
}

// arrived reads the counter.
func (d *Device) arrived() (uint64, error) {
	conn, err := nftables.New()
	if err != nil {
		return 0, err
	}
	table := d.table()
	rules, err := conn.GetRules(table, d.chain(table))
	if err != nil {
		return 0, err
	}
	for _, rule := range rules {
		for _, e := range rule.Exprs {
			if counter, ok := e.(*expr.Counter); ok {
				return counter.Packets, nil
			}
		}
	}
	return 0, errors.New("nobody counts the packets of the device")
}

// stopCounting leaves nothing behind.
func (d *Device) stopCounting() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.arrivals == nil {
		return nil
	}
	d.arrivals = nil
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.DelTable(conn.AddTable(d.table()))
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove nftables table %s: %w", CountingTable(d.name), err)
	}
	return nil
}
