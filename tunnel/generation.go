package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// transactionSize is room for a whole table of thousands of peers, and for the kernel's answer to each message of it, bytes.
const transactionSize = 32 << 20

// openNftables gives a connection that takes our table in one transaction.
func openNftables() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(transactionSize), c.SetReadBuffer(transactionSize))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return conn, nil
}

// generation is the number of the kernel's nftables ruleset: every change by anybody makes it another.
func generation() (uint32, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return 0, fmt.Errorf("open nftables: %w", err)
	}
	defer conn.Close()
	answers, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: netlink.Request},
		Data:   make([]byte, 4), // nfgenmsg
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the generation of nftables: %w", err)
	}
	for _, m := range answers {
		if len(m.Data) < 4 {
			continue
		}
		attributes, err := netlink.UnmarshalAttributes(m.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("read the generation of nftables: %w", err)
		}
		for _, a := range attributes {
			if a.Type == unix.NFTA_GEN_ID && len(a.Data) == 4 {
				return binary.BigEndian.Uint32(a.Data), nil
			}
		}
	}
	return 0, fmt.Errorf("the kernel told no generation of nftables")
}

// ruleHandles names the rules of our table by chain, in their order. It does not read what is in them: google/nftables
// does, and cannot read all that it writes.
func ruleHandles() (map[string][]uint64, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	defer conn.Close()
	table, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: append([]byte(tableName), 0)}})
	if err != nil {
		return nil, fmt.Errorf("list nftables rules: %w", err)
	}
	rules, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{unix.NFPROTO_INET, 0, 0, 0}, table...), // nfgenmsg
	})
	if err != nil {
		return nil, fmt.Errorf("list nftables rules: %w", err)
	}
	out := map[string][]uint64{}
	for _, m := range rules {
		if len(m.Data) < 4 {
			continue
		}
		attributes, err := netlink.UnmarshalAttributes(m.Data[4:])
		if err != nil {
			return nil, fmt.Errorf("read nftables rules: %w", err)
		}
		var chain string
		var handle uint64
		for _, a := range attributes {
			switch {
			case a.Type == unix.NFTA_RULE_CHAIN:
				chain = strings.TrimRight(string(a.Data), "\x00")
			case a.Type == unix.NFTA_RULE_HANDLE && len(a.Data) == 8:
				handle = binary.BigEndian.Uint64(a.Data)
			}
		}
		out[chain] = append(out[chain], handle)
	}
	return out, nil
}
