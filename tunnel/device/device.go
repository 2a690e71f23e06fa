// Package device opens one WireGuard device by name: the kernel's where the kernel has WireGuard, else wireguard-go
// inside this process, with a configuration socket so that wgctrl treats both alike. It counts the packets a device
// refused. It sets no keys, peers, addresses or routes.
//
//	d, err := device.Open(device.Options{Name: "spillway0", MTU: 1420, Log: log})
//	defer d.Close()
package device

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// Options says which device.
type Options struct {
	// Name of the link, at most 15 characters. A userspace device also has the socket /var/run/wireguard/NAME.sock:
	// two processes that share /var/run must not use one name, even in different network namespaces.
	Name string
	// MTU of the link, bytes.
	MTU int
	// ForceUserspace does not try the kernel.
	ForceUserspace bool
	Log            *zap.Logger
}

// Device is an open WireGuard device. Safe for concurrent use.
type Device struct {
	name   string
	kernel bool

	user   *device.Device // nil for the kernel's
	socket net.Listener
	counts *counts
	once   sync.Once
	wg     sync.WaitGroup
}

// Open makes the link. A kernel device of that name that is left from an earlier process is taken over; a link of
// another kind is an error.
func Open(o Options) (*Device, error) {
	if !o.ForceUserspace {
		err := openKernel(o)
		if err == nil {
			return &Device{name: o.Name, kernel: true}, nil
		}
		if !errors.Is(err, netlink.ErrNotImplemented) && !absent(err) {
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

func openUser(o Options) (*Device, error) {
	link, err := tun.CreateTUN(o.Name, o.MTU)
	if err != nil {
		return nil, fmt.Errorf("make device %s: %w", o.Name, err)
	}
	c := &counts{}
	log := &device.Logger{Verbosef: c.note, Errorf: c.noteError(o.Log.With(zap.String("device", o.Name)))}
	d := &Device{name: o.Name, counts: c}
	d.user = device.NewDevice(&countingTUN{Device: link, counts: c}, &bind{Bind: conn.NewStdNetBind(), counts: c}, log)
	file, err := ipc.UAPIOpen(o.Name)
	if err != nil {
		d.user.Close()
		return nil, fmt.Errorf("make the configuration socket of device %s: %w", o.Name, err)
	}
	if d.socket, err = ipc.UAPIListen(o.Name, file); err != nil {
		d.user.Close()
		return nil, errors.Join(fmt.Errorf("listen on the configuration socket of device %s: %w", o.Name, err), file.Close())
	}
	if err := d.user.Up(); err != nil {
		return nil, errors.Join(fmt.Errorf("bring device %s up: %w", o.Name, err), d.Close())
	}
	d.wg.Go(d.configure)
	return d, nil
}

// configure answers wgctrl until the socket is closed.
func (d *Device) configure() {
	for {
		c, err := d.socket.Accept()
		if err != nil {
			return
		}
		d.wg.Go(func() { d.user.IpcHandle(c) })
	}
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

// Close removes the device and waits for its goroutines. It may be called twice.
func (d *Device) Close() error {
	var err error
	d.once.Do(func() {
		if d.kernel {
			link, findErr := netlink.LinkByName(d.name)
			if findErr != nil {
				return // somebody else removed it
			}
			if delErr := netlink.LinkDel(link); delErr != nil {
				err = fmt.Errorf("remove device %s: %w", d.name, delErr)
			}
			return
		}
		_ = d.socket.Close() // ends configure; there is nothing to be done about it
		d.user.Close()
		_ = os.Remove("/var/run/wireguard/" + d.name + ".sock")
		d.wg.Wait()
	})
	return err
}
