package kernelvm

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// bootAndRun bounds the whole: 20 s on two idle cores.
const bootAndRun = 5 * time.Minute

func TestKernelWireGuard(t *testing.T) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip("no qemu-system-x86_64 (Debian: qemu-system-x86): the kernel's WireGuard is not tried")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the guest is for amd64: the kernel's WireGuard is not tried")
	}
	k := fetchKernel(t)
	dir := t.TempDir()
	guest := filepath.Join(dir, "guest")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", guest, "./guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the guest: %v\n%s", err, out)
	}
	program, err := os.ReadFile(guest)
	if err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(dir, "initrd")
	if err := os.WriteFile(initrd, image(t, program, k), 0o600); err != nil {
		t.Fatal(err)
	}
	console := boot(t, qemu, k.image, initrd)
	told := 0
	for line := range strings.Lines(console) {
		line = line[max(strings.Index(line, "vm-"), 0):] // what switches the screen may come before
		verdict, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, detail, _ := strings.Cut(rest, ": ")
		switch verdict {
		case "vm-pass":
			t.Run(name, func(t *testing.T) { t.Log(detail) })
		case "vm-fail":
			t.Run(name, func(t *testing.T) { t.Error(detail) })
		default:
			continue
		}
		told++
	}
	if told < 2 || !strings.Contains(console, "vm-end") {
		t.Error("the guest did not come to its end")
	}
	if t.Failed() {
		t.Logf("console:\n%s", console)
	}
}

// boot runs the machine until it switches itself off, and returns what it wrote on its console.
func boot(t *testing.T, qemu, kernel, initrd string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootAndRun)
	defer cancel()
	vm := exec.CommandContext(ctx, qemu, "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "512", "-nographic", "-no-reboot", "-nic", "none",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet")
	out, err := vm.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	vm.Stderr = os.Stderr
	began := time.Now()
	if err := vm.Start(); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text.WriteString(lines.Text() + "\n")
	}
	if err := vm.Wait(); err != nil {
		t.Errorf("the machine ended after %v: %v", time.Since(began), err)
	}
	t.Logf("the machine ran for %v", time.Since(began).Round(time.Second))
	return text.String()
}
