// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// FaultsPath is where FaultsHandler is served. No AWS API has such a path.
const FaultsPath = "/_dovetail/faults"

// FaultsHandler serves the faults of an account as JSON:
//
//	POST   /_dovetail/faults       starts a Fault and answers it with its id (201)
//	GET    /_dovetail/faults       answers {"faults": [...]}
//	DELETE /_dovetail/faults       ends all (204)
//	DELETE /_dovetail/faults/{id}  ends one (204)
//
// A request that cannot be served is answered {"error": "..."} with status 400, or 404 for an id that there is not.
func (c *Cloud) FaultsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+FaultsPath, func(w http.ResponseWriter, r *http.Request) {
		var f Fault
		decoder := json.NewDecoder(io.LimitReader(r.Body, maxRequest))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&f); err != nil {
			writeFaultError(w, http.StatusBadRequest, faultError("%w: want an object with one of %s, and any of times, for, seed, description", err, faultKinds))
			return
		}
		added, err := c.AddFault(f)
		if err != nil {
			status := http.StatusInternalServerError
			if errors.Is(err, ErrFault) {
				status = http.StatusBadRequest
			}
			writeFaultError(w, status, err)
			return
		}
		writeFaults(w, http.StatusCreated, added)
	})
	mux.HandleFunc("GET "+FaultsPath, func(w http.ResponseWriter, _ *http.Request) {
		writeFaults(w, http.StatusOK, FaultList{Faults: c.Faults()})
	})
	mux.HandleFunc("DELETE "+FaultsPath, func(w http.ResponseWriter, _ *http.Request) {
		c.ClearFaults()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE "+FaultsPath+"/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := c.RemoveFault(r.PathValue("id")); err != nil {
			writeFaultError(w, http.StatusNotFound, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

// HandlerWithFaults is Handler, with FaultsHandler at its path. It is for a simulator that has no other way in for its user.
func (c *Cloud) HandlerWithFaults() http.Handler {
	apis, faults := c.Handler(), c.FaultsHandler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == FaultsPath || strings.HasPrefix(r.URL.Path, FaultsPath+"/") {
			faults.ServeHTTP(w, r)
			return
		}
		apis.ServeHTTP(w, r)
	})
}

// FaultList is the answer to GET.
type FaultList struct {
	Faults []Fault `json:"faults"`
}

func writeFaults(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the caller is gone: nothing to do
}

func writeFaultError(w http.ResponseWriter, status int, err error) {
	writeFaults(w, status, map[string]string{"error": err.Error()})
}
