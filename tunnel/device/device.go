// Package device opens one WireGuard device by name: the kernel's where the kernel has WireGuard, else wireguard-go
// inside this process, with a configuration socket so that wgctrl treats both alike. It counts the packets a device
// refused and knows how much room a path has. It sets no keys, peers, addresses or routes.
//
//	d, err := device.Open(device.Options{Name: "spillway0", MTU: 1420, Log: log})
//	defer d.Close()
package device

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/device"
)

// Options says which device.
type Options struct {
	// Name of the link, at most 15 characters. A userspace device also has the socket /var/run/wireguard/NAME.sock,
	// where wgctrl and the wg program look for it: two processes that share /run must not use one name, even in
	// different network namespaces. Nodes have a /run each; tests mount one.
	Name string
	// MTU of the link, bytes.
	MTU int
	// ForceUserspace does not try the kernel.
	ForceUserspace bool
	Log            *zap.Logger
	// NetNS runs a function in the network namespace in which link and sockets are to be. Nil: in that of the caller,
	// which must then be that of the whole process, as wireguard-go opens sockets on any thread.
	NetNS NetNS
}

// NetNS runs f in a network namespace, on one thread, and returns its error.
type NetNS func(f func() error) error

func (n NetNS) run(f func() error) error {
	if n == nil {
		return f()
	}
	return n(f)
}

// Device is an open WireGuard device. Safe for concurrent use.
type Device struct {
	name   string
	netNS  NetNS
	kernel bool

	refused *refused

	// Of a userspace device only.
	user    *device.Device // set once; guarded by mu until Open returns
	log     *zap.Logger
	wg      sync.WaitGroup
	closing chan struct{}
	once    sync.Once

	mu     sync.Mutex
	socket net.Listener          // guarded by mu
	conns  map[net.Conn]struct{} // guarded by mu

	arrivals *arrivals // guarded by mu; of a kernel device; nil: not counted
}

// Open makes the link; it is down and has no address. A kernel device of that name that is left from an earlier process
// is taken over with its sessions; a link of another kind is an error. Where the kernel has no WireGuard, and only then,
// the device is wireguard-go's.
func Open(o Options) (*Device, error) {
	if !o.ForceUserspace {
		err := o.NetNS.run(func() error { return openKernel(o) })
		if err == nil {
			return &Device{name: o.Name, netNS: o.NetNS, kernel: true, refused: &refused{}}, nil
		}
		if !absent(err) {
			return nil, err
		}
	}
	return openUser(o)
}

func openKernel(o Options) error {
	if old, err := netlink.LinkByName(o.Name); err == nil {
		if old.Type() == "wireguard" {
			return nil
		}
		return fmt.Errorf("make WireGuard device %s: a link of that name and kind %s is there", o.Name, old.Type())
	}
	link := &netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: o.Name, MTU: o.MTU}}
	if err := netlink.LinkAdd(link); err != nil {
		return fmt.Errorf("make WireGuard device %s: %w", o.Name, err)
	}
	return nil
}

// absent says that the kernel does not know links of this kind.
func absent(err error) bool {
	return errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EPROTONOSUPPORT)
}

// Kernel says that the device is the kernel's.
func (d *Device) Kernel() bool { return d.kernel }

// Done is closed when a userspace device has ended, as after somebody deleted its link; nil for the kernel's.
func (d *Device) Done() <-chan struct{} {
	if d.user == nil {
		return nil
	}
	return d.user.Wait()
}

// SetMTU sets the MTU of the link, bytes.
func (d *Device) SetMTU(mtu int) error {
	return d.netNS.run(func() error {
		link, err := netlink.LinkByName(d.name)
		if err != nil {
			return fmt.Errorf("find device %s: %w", d.name, err)
		}
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set the MTU of device %s to %d: %w", d.name, mtu, err)
		}
		return nil
	})
}

// Close removes the device and waits for its goroutines. It may be called twice.
func (d *Device) Close() error {
	var err error
	d.once.Do(func() {
		if d.kernel {
			err = d.netNS.run(func() error { return errors.Join(d.removeLink(), d.stopCounting()) })
			return
		}
		close(d.closing)
		d.user.Close()
		d.closeSocket()
		d.wg.Wait()
	})
	return err
}

func (d *Device) removeLink() error {
	link, err := netlink.LinkByName(d.name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // somebody else removed it
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("remove device %s: %w", d.name, err)
	}
	return nil
}

// retryAfter is how long what failed for want of something that others hold (a port, a socket file) waits.
const retryAfter = time.Second
