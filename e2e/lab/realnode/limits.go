package realnode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// A kubelet takes six inotify instances, a control plane ten, and Linux gives a user 128: too few for a few labs at once, and then
// kubelets end for no visible reason. This is the one machine-wide setting that real nodes change. The first lab raises it, and Clean
// of the last one puts back what was there; in between the old value is in a file that goes with the machine's next start, as the
// setting itself does.
const (
	inotifySysctl = "/proc/sys/fs/inotify/max_user_instances"
	inotifySaved  = "/run/spillway-lab-inotify"
	inotifyWanted = 4096
)

// raiseLimits is called with the lock of lockNetwork held.
func raiseLimits() error {
	now, err := readNumber(inotifySysctl)
	if err != nil || now >= inotifyWanted {
		return err
	}
	if err := os.WriteFile(inotifySaved, []byte(strconv.Itoa(now)), 0o600); err != nil {
		return fmt.Errorf("save the number of inotify instances: %w", err)
	}
	return writeNumber(inotifySysctl, inotifyWanted)
}

// restoreLimits does nothing while another lab has its uplink.
func restoreLimits() error {
	unlock, err := lockNetwork()
	if err != nil {
		return err
	}
	defer unlock()
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, devicePrefix) {
			return nil
		}
	}
	saved, err := readNumber(inotifySaved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := readNumber(inotifySysctl)
	if err != nil {
		return err
	}
	if now == inotifyWanted { // nobody else has changed it
		if err := writeNumber(inotifySysctl, saved); err != nil {
			return err
		}
	}
	if err := os.Remove(inotifySaved); err != nil {
		return fmt.Errorf("remove saved number of inotify instances: %w", err)
	}
	return nil
}

func readNumber(file string) (int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read limit: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("read limit %s: %w", file, err)
	}
	return n, nil
}

func writeNumber(file string, n int) error {
	if err := os.WriteFile(file, []byte(strconv.Itoa(n)), 0o600); err != nil {
		return fmt.Errorf("set limit: %w", err)
	}
	return nil
}
