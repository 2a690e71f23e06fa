package tunnel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// lossDelay is how long losses are collected before a round.
const lossDelay = 250 * time.Millisecond

// losses tells when the kernel says that something of ours may have gone, until ctx ends. What the kernel does not tell, or tells too
// often to be listened to (neighbours), the regular round finds.
func losses(ctx context.Context) (<-chan struct{}, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, fmt.Errorf("subscribe to changes of links, addresses, routes and rules: %w", err)
	}
	stop := context.AfterFunc(ctx, socket.Close)
	out := make(chan struct{}, 1)
	go func() {
		defer stop()
		for ctx.Err() == nil {
			messages, _, err := socket.Receive()
			if err != nil && !errors.Is(err, syscall.ENOBUFS) { // which says that messages were lost
				return // closed, or the regular rounds have to do
			}
			for _, m := range messages {
				if lost(m) {
					err = syscall.ENOBUFS
				}
			}
			if err != nil {
				select {
				case out <- struct{}{}:
				default:
				}
			}
		}
	}()
	return out, nil
}

// lost says whether a message tells that something of ours has gone or changed.
func lost(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_DELRULE:
		return true // rare
	case unix.RTM_DELROUTE:
		return len(m.Data) >= unix.SizeofRtMsg && nl.DeserializeRtMsg(m.Data).Protocol == routeProtocol
	case unix.RTM_DELADDR:
		if len(m.Data) < unix.SizeofIfAddrmsg {
			return false
		}
		link, err := netlink.LinkByIndex(int(nl.DeserializeIfAddrmsg(m.Data).Index))
		return err == nil && strings.HasPrefix(link.Attrs().Name, linkPrefix)
	case unix.RTM_DELLINK, unix.RTM_NEWLINK:
		if len(m.Data) < unix.SizeofIfInfomsg {
			return false
		}
		attributes, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfInfomsg:])
		for _, a := range attributes {
			if a.Attr.Type == unix.IFLA_IFNAME {
				return strings.HasPrefix(string(a.Value), linkPrefix)
			}
		}
		return err != nil
	}
	return false
}
