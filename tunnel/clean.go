package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"

	"github.com/spillway-dev/spillway/tunnel/device"
)

// Clean takes everything of ours out of the kernel of this network namespace: links with all they have, routes, rules, nftables
// tables, the connections with peers that connection tracking would go on to translate, and configuration sockets that a process
// which was killed has left. It may be called again. An Engine must not run at the same time.
func Clean(context.Context) error {
	var all []error
	have, err := observe()
	if err != nil {
		return err
	}
	for _, c := range Diff(have, Config{}) {
		all = append(all, apply(c))
	}
	all = append(all, removeTables())
	// Last: until then another packet would have made an entry again.
	all = append(all, forgetConnections(stale{all: peerRanges(have.Routes)}))
	for slot := range MaxSlots {
		all = append(all, device.RemoveSocket(DeviceName(slot)))
	}
	return errors.Join(all...)
}

// removeTables removes ours, and those of kernel devices that a process left.
func removeTables() error {
	conn, err := openNftables()
	if err != nil {
		return err
	}
	if err := replaceTable(conn, Packets{}); err != nil {
		return err
	}
	for slot := range MaxSlots {
		table := &nftables.Table{Name: device.CountingTable(DeviceName(slot)), Family: nftables.TableFamilyINet}
		conn.AddTable(table) // so that there is one to delete
		conn.DelTable(table)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("remove nftables tables %s: %w", tableName, err)
	}
	return nil
}

// peerRanges are what routes of ours lead to at peers; those back to pods of this cluster are not among them: its own connections
// with each other are nobody's business.
func peerRanges(routes []Route) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range routes {
		if r.Table == tableMain || r.Table >= tableSlot && r.Table < tableSlot+MaxSlots {
			out = append(out, r.Dst)
		}
	}
	return out
}
