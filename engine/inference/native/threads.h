/* Threads that share the pieces of a pass. Whoever is free takes the next piece, so a thread that the system keeps
 * waiting holds up no more than the piece that it has, and one that sleeps holds up nothing. */

#ifndef THREADS_H
#define THREADS_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#define MOST_THREADS 64
#define SPINS 4000       /* looks before a thread lets others have its processor */
#define YIELDS 200       /* times it does so before it sleeps */

typedef void piece_of_work(void *context, long piece, int thread);

static struct {
    _Alignas(64) _Atomic uint64_t ticket; /* of the next piece, as OF_TICKET reads it */
    _Alignas(64) _Atomic long done;       /* apart, as all threads write to either */
    piece_of_work *work;
    void *context;

    pthread_mutex_t passes; /* one pass at a time */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic long wakings;
    _Atomic uint64_t sleepers; /* a bit for each thread */
    _Atomic int active; /* threads that are wanted, the caller's included */
    int started;
} pool = {.passes = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static inline void rest(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* A ticket: how many threads may take one, how many pieces there are, and the next one. */
#define PART 28
#define OF_TICKET(ticket, part) ((ticket) >> (part) * PART & (((uint64_t)1 << PART) - 1))

/* Take pieces until there are none; returns whether there was one. They count as done all at once: until then nobody
 * begins another work. A thread that comes too late for its pass may find the next one, which has no room for it where
 * it has fewer threads. */
static int take_pieces(int thread) {
    long taken = 0;
    uint64_t ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
    while ((uint64_t)thread < OF_TICKET(ticket, 2) && OF_TICKET(ticket, 0) < OF_TICKET(ticket, 1)) {
        if (!atomic_compare_exchange_weak_explicit(&pool.ticket, &ticket, ticket + 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        pool.work(pool.context, (long)OF_TICKET(ticket, 0), thread); /* stays what it is until then */
        taken++;
        ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
    }
    if (taken) atomic_fetch_add_explicit(&pool.done, taken, memory_order_acq_rel);
    return taken > 0;
}

static void *helper(void *number) {
    int thread = (int)(intptr_t)number, idle = 0;
    for (;;) {
        long wakings = atomic_load(&pool.wakings);
        if (thread < atomic_load(&pool.active) && idle < SPINS + YIELDS) {
            if (take_pieces(thread)) idle = 0;
            else if (++idle < SPINS) rest();
            else sched_yield();
            continue;
        }
        pthread_mutex_lock(&pool.lock);
        atomic_fetch_or(&pool.sleepers, (uint64_t)1 << thread);
        while (wakings == atomic_load(&pool.wakings)) pthread_cond_wait(&pool.wake, &pool.lock);
        atomic_fetch_and(&pool.sleepers, ~((uint64_t)1 << thread));
        pthread_mutex_unlock(&pool.lock);
        idle = 0;
    }
    return 0;
}

/* A child of this process has none of its threads, and may have been made in the middle of a pass. */
static void begin_in_child(void) {
    pthread_mutex_init(&pool.passes, 0);
    pthread_mutex_init(&pool.lock, 0);
    pthread_cond_init(&pool.wake, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.ticket, 0);
    pool.started = 1;
}

/* Begin a pass with so many threads; where the system gives fewer, those that there are do the work. */
static void begin_pass(int threads) {
    pthread_mutex_lock(&pool.passes);
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    if (threads < 1) threads = 1;
    if (!pool.started) {
        pthread_atfork(0, 0, begin_in_child);
        pool.started = 1;
    }
    while (pool.started < threads) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        int failed = pthread_create(&thread, &attributes, helper, (void *)(intptr_t)pool.started);
        pthread_attr_destroy(&attributes);
        if (failed) break;
        pool.started++;
    }
    atomic_store(&pool.active, threads);
    if (atomic_load(&pool.sleepers) & (((uint64_t)2 << (threads - 1)) - 2)) { /* one of those that are wanted */
        pthread_mutex_lock(&pool.lock);
        atomic_fetch_add(&pool.wakings, 1);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
}

static void end_pass(void) { pthread_mutex_unlock(&pool.passes); }

/* Do all pieces of a work, and return when they are done. */
static void share(piece_of_work *work, void *context, long pieces) {
    if (atomic_load_explicit(&pool.active, memory_order_relaxed) == 1 || pieces == 1) {
        for (long piece = 0; piece < pieces; piece++) work(context, piece, 0);
        return;
    }
    pool.work = work;
    pool.context = context;
    atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
    uint64_t threads = (uint64_t)atomic_load_explicit(&pool.active, memory_order_relaxed);
    atomic_store_explicit(&pool.ticket, threads << 2 * PART | (uint64_t)pieces << PART, memory_order_release);
    take_pieces(0);
    for (int looks = 0; atomic_load_explicit(&pool.done, memory_order_acquire) < pieces; looks++) {
        if (looks < SPINS) rest();
        else sched_yield();
    }
}

#endif
