// SPDX-License-Identifier: Apache-2.0

// Program is what containers of the kubelet's tests run: `program write FILE TEXT` ends at once, `program serve ADDR`
// tells what a container sees.
package main

import (
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
)

func main() {
	switch os.Args[1] {
	case "write":
		if err := os.WriteFile(os.Args[2], []byte(os.Args[3]), 0o644); err != nil {
			panic(err)
		}
	case "exists":
		if _, err := os.Stat(os.Args[2]); err != nil {
			os.Exit(1)
		}
	case "print":
		fmt.Print(os.Getenv(os.Args[2]))
		fmt.Fprint(os.Stderr, "printed ", os.Args[2])
		if os.Getenv(os.Args[2]) == "" {
			os.Exit(3)
		}
	case "serve":
		serve(os.Args[2])
	}
}

func serve(address string) {
	var sick atomic.Bool
	http.HandleFunc("GET /env", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, os.Getenv(r.FormValue("name")))
	})
	http.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		content, err := os.ReadFile(r.FormValue("name"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "%s", content)
	})
	http.HandleFunc("GET /pid", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	http.HandleFunc("GET /fall-ill", func(http.ResponseWriter, *http.Request) { sick.Store(true) })
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			http.Error(w, "ill", http.StatusInternalServerError)
		}
	})
	panic(http.ListenAndServe(address, nil))
}
