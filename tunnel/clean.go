package tunnel

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/nftables"

	"github.com/spillway-dev/spillway/tunnel/device"
)

// Clean takes everything of ours out of the kernel of this network namespace and puts settings back. It may be called
// again. An Engine must not run at the same time.
func Clean(context.Context) error {
	var all []error
	have, err := observe()
	if err != nil {
		return err
	}
	for _, c := range Diff(have, Config{}) {
		all = append(all, apply(c))
	}
	conn, err := openNftables()
	if err != nil {
		return errors.Join(append(all, err)...)
	}
	if err := replaceTable(conn, Packets{}); err != nil {
		return err
	}
	for slot := range MaxSlots { // of kernel devices that a process left
		table := &nftables.Table{Name: device.CountingTable(DeviceName(slot)), Family: nftables.TableFamilyINet}
		conn.AddTable(table) // so that there is one to delete
		conn.DelTable(table)
	}
	if err := conn.Flush(); err != nil {
		all = append(all, fmt.Errorf("remove nftables tables %s: %w", tableName, err))
	}
	return errors.Join(all...)
}
