package device

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// openUser makes a TUN link with wireguard-go behind it. TUN checksum and segmentation offload and UDP segmentation
// offload are wireguard-go's own and stay on: each of them doubles the throughput.
func openUser(o Options) (*Device, error) {
	var link tun.Device
	err := o.NetNS.run(func() (err error) {
		link, err = tun.CreateTUN(o.Name, o.MTU)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make device %s: %w", o.Name, err)
	}
	d := newUser(o, link)
	if err := d.listen(); err != nil {
		d.user.Close()
		return nil, err
	}
	d.wg.Go(d.serve)
	return d, nil
}

// newUser starts wireguard-go behind link.
func newUser(o Options, link tun.Device) *Device {
	d := &Device{
		name: o.Name, netNS: o.NetNS, log: o.Log.With(zap.String("device", o.Name)),
		refused: &refused{}, closing: make(chan struct{}), conns: map[net.Conn]struct{}{},
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.user = device.NewDevice(&countingTUN{Device: link, netNS: o.NetNS, refused: d.refused}, newBind(d),
		&device.Logger{Verbosef: d.refused.note, Errorf: d.noteError})
	return d
}

// noteError logs what wireguard-go calls an error. A peer that cannot be reached is none: the probes say it better.
func (d *Device) noteError(format string, args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok && (errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) ||
			errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EADDRINUSE)) {
			return
		}
	}
	if !strings.Contains(format, "no known endpoint") {
		d.log.Debug("wireguard-go", zap.String("says", fmt.Sprintf(format, args...)))
	}
}

// listen makes the configuration socket.
func (d *Device) listen() error {
	file, err := ipc.UAPIOpen(d.name)
	if err != nil {
		return fmt.Errorf("make the configuration socket of device %s: %w", d.name, err)
	}
	defer file.Close() // UAPIListen has its own copy
	socket, err := ipc.UAPIListen(d.name, file)
	if err != nil {
		return fmt.Errorf("listen on the configuration socket of device %s: %w", d.name, err)
	}
	d.mu.Lock()
	d.socket = socket
	d.mu.Unlock()
	return nil
}

// serve answers wgctrl until Close, and makes the socket again when somebody has deleted it.
func (d *Device) serve() {
	for {
		d.mu.Lock()
		socket := d.socket
		d.mu.Unlock()
		c, err := socket.Accept()
		if err == nil {
			d.wg.Go(func() { d.answer(c) })
			continue
		}
		_ = socket.Close() // it has ended
		for err != nil {
			select {
			case <-d.closing:
				return
			case <-time.After(retryAfter):
			}
			err = d.listen()
		}
		d.log.Warn("the configuration socket was gone and is there again")
	}
}

func (d *Device) answer(c net.Conn) {
	d.mu.Lock()
	d.conns[c] = struct{}{}
	d.mu.Unlock()
	select {
	case <-d.closing: // closeSocket may have missed this one
		_ = c.Close()
	default:
	}
	d.user.IpcHandle(c) // closes c
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
}

// closeSocket ends serve and the answers that somebody still waits for.
func (d *Device) closeSocket() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.socket != nil {
		_ = d.socket.Close() // removes the file too; nothing is to be done about an error
	}
	for c := range d.conns {
		_ = c.Close()
	}
}

// countingTUN counts the packets that come out of a device.
type countingTUN struct {
	tun.Device
	netNS   NetNS
	refused *refused
}

func (t *countingTUN) Write(bufs [][]byte, offset int) (int, error) {
	n, err := t.Device.Write(bufs, offset)
	t.refused.accepted.Add(uint64(len(bufs)))
	t.refused.sample()
	return n, err
}

func (t *countingTUN) MTU() (mtu int, err error) {
	err = t.netNS.run(func() error {
		mtu, err = t.Device.MTU() // asks by name, where it runs
		return err
	})
	return mtu, err
}
