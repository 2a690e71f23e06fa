// Command app is the one program in the lab's test image. Its first argument says what it does:
//
//	serve [ADDR]       answers HTTP on ADDR (:8080) with one "key: value" line per fact about the pod; /healthz answers ok, /exit?code=N ends
//	sleep [DURATION]   sleeps, for ever without DURATION; ends at once on SIGTERM
//	ignore-term        prints a line for each SIGTERM and goes on
//	exit N             ends with exit code N
//	crash              prints a line and ends with a panic
//	log N [EVERY]      prints N numbered lines, one each EVERY (0s), then ends
//	cat FILE...        prints files
//	env [NAME...]      prints the environment, or only these variables
//	get URL            prints what URL answers; ends with 1 if it does not answer 200. To the own API server it goes as the pod's
//	                   service account
//	resolve NAME       prints the addresses of NAME, one per line
//	see WHAT...        notes what it sees in the termination message, see see.go
//	true               does nothing
//	copy               prints its standard input
//	sum [FILE]         prints the length and SHA-256 of FILE or of its standard input
//	bytes N [heard]    prints N bytes of every value, the same in each run; then their sum on the standard error;
//	                   with heard it stays until the standard input ends
//	fill N             prints N numbered lines of 100 bytes at once
//	say OUT ERR CODE   prints OUT and, on the standard error, ERR, and ends with CODE
//	tty                prints the size of its terminal whenever it changes, and what is typed, until a line says end
//	busy FILE          takes CPU while FILE exists
//	touch FILE         makes FILE, empty
//	rm FILE            removes FILE
//	echo [ADDR]        gives back what TCP connections to ADDR (:7) bring
//	ps                 prints the command line of each process
//	load URL [RATE [TIMEOUT]]  asks URL so often in a second (100), over new connections, and prints a line of JSON per second with what came
//	                   of it (package load); a request fails after TIMEOUT (2s)
//
// Called as tar or test it does what kubectl cp wants of these, see tar.go.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spillway-dev/spillway/e2e/load"
)

func main() {
	known, err := called(filepath.Base(os.Args[0]), os.Args[1:])
	if !known {
		err = run(os.Args[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("say what to do: serve, sleep, ignore-term, exit, crash, log, cat, env, get, resolve, see, true, copy, sum, bytes, fill, say, tty, busy, touch, rm, echo, ps or load")
	}
	rest := args[1:]
	switch args[0] {
	case "serve":
		return serve(argument(rest, 0, ":8080"))
	case "sleep":
		return sleep(argument(rest, 0, ""))
	case "ignore-term":
		ignoreTerm()
	case "exit":
		code, err := strconv.Atoi(argument(rest, 0, "0"))
		if err != nil {
			return fmt.Errorf("exit code: %w", err)
		}
		os.Exit(code)
	case "crash":
		fmt.Println("about to crash")
		panic("crashed as told")
	case "log":
		return logLines(argument(rest, 0, "10"), argument(rest, 1, "0s"))
	case "cat":
		return cat(rest)
	case "env":
		printEnv(rest)
		return nil
	case "get":
		return get(argument(rest, 0, ""))
	case "resolve":
		return resolve(argument(rest, 0, ""))
	case "see":
		return see(rest)
	case "load":
		return loadURL(rest)
	}
	if known, err := stream(args[0], rest); known {
		return err
	}
	return fmt.Errorf("cannot %q", args[0])
}

func argument(args []string, i int, otherwise string) string {
	if i < len(args) {
		return args[i]
	}
	return otherwise
}

func serve(addr string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, facts(r)) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		os.Exit(code)
	})
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, func() { _ = server.Close() })
	fmt.Printf("serving on %s\n", addr)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	fmt.Println("told to end")
	return nil
}

func loadURL(args []string) error {
	rate, err := strconv.Atoi(argument(args, 1, "100"))
	if err != nil {
		return fmt.Errorf("requests per second: %w", err)
	}
	timeout, err := time.ParseDuration(argument(args, 2, "2s"))
	if err != nil {
		return fmt.Errorf("time for one request: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return load.Run(ctx, load.Options{URL: argument(args, 0, ""), Rate: rate, Timeout: timeout}, os.Stdout)
}

// facts are what a test wants to know of the pod that answered; POD, NODE and NAMESPACE come from the downward API.
func facts(r *http.Request) string {
	host, _ := os.Hostname()
	var b strings.Builder
	for _, name := range []string{"POD", "NODE", "NAMESPACE"} {
		if v := os.Getenv(name); v != "" {
			fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(name), v)
		}
	}
	fmt.Fprintf(&b, "hostname: %s\naddresses: %s\nclient: %s\n", host, strings.Join(addresses(), " "), r.RemoteAddr)
	for _, name := range r.URL.Query()["env"] {
		fmt.Fprintf(&b, "env %s: %s\n", name, os.Getenv(name))
	}
	return b.String()
}

func addresses() []string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

func sleep(duration string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if duration != "" {
		d, err := time.ParseDuration(duration)
		if err != nil {
			return fmt.Errorf("how long to sleep: %w", err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	<-ctx.Done()
	return nil
}

func ignoreTerm() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM)
	fmt.Println("ignoring SIGTERM")
	for range signals {
		fmt.Println("got SIGTERM, going on")
	}
}

func logLines(count, every string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return fmt.Errorf("number of lines: %w", err)
	}
	pause, err := time.ParseDuration(every)
	if err != nil {
		return fmt.Errorf("time between lines: %w", err)
	}
	for i := 1; i <= n; i++ {
		fmt.Println("line", i)
		<-time.After(pause)
	}
	return nil
}

func cat(files []string) error {
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		_, _ = os.Stdout.Write(data)
	}
	return nil
}

func printEnv(names []string) {
	if len(names) > 0 {
		for _, name := range names {
			fmt.Printf("%s=%s\n", name, os.Getenv(name))
		}
		return
	}
	all := os.Environ()
	sort.Strings(all)
	fmt.Println(strings.Join(all, "\n"))
}

func get(url string) error {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 5 * time.Second}
	if strings.HasPrefix(request.URL.Hostname(), "kubernetes.default") {
		if err := useServiceAccount(&client, request); err != nil {
			return err
		}
	}
	resp, err := client.Do(request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(os.Stdout, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return nil
}

func useServiceAccount(client *http.Client, request *http.Request) error {
	const dir = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token, err := os.ReadFile(dir + "token")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(dir + "ca.crt")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	request.Header.Set("Authorization", "Bearer "+string(token))
	return nil
}

func resolve(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(found, "\n"))
	return nil
}
