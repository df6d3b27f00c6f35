/* test_numbers.c - a program that closes the descriptors of a mux and opens other files
 * under their numbers, as daemons do: these files stay as they are. */
#include "faults.h"
#include "harness.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST = 3, /* after stdin, stdout and stderr */
       END = 24 };

/* A process without other descriptors, in which a mux watches a pipe. */
typedef struct {
    fmux_t *mux;
    array_t array;
    int ends[2];
    int before;          /* open descriptors without the mux */
    int first;           /* all higher numbers are those of the mux */
    ino_t inodes[END];   /* of the files that took them; 0: none */
} scene_t;

static scene_t scene_open(int mechanism, int shared, int64_t timeout_ns)
{
    scene_t scene = {0};
    for (int fd = FIRST; fd < END; fd++)
        close(fd);
    pipe_open(scene.ends);
    scene.before = open_descriptors();
    scene.first = scene.ends[1] + 1;
    scene.mux = mux_open(mechanism);
    scene.array = array_open(scene.mux, 4, PRIVATE);
    CHECK_EQ(0, fmux_set_shared(scene.mux, shared));
    CHECK_OK(fmux_add(scene.mux, scene.ends[0], EPOLLIN));
    CHECK_EQ(0, array_wait(&scene.array, timeout_ns));
    return scene;
}

/* Put a file under each number of the mux. */
static void take_the_numbers(scene_t *scene)
{
    for (int fd = scene->first; fd < END; fd++) {
        struct stat file;
        if (fstat(fd, &file) < 0)
            continue;
        close(fd);
        CHECK_EQ(fd, memfd_create("taken", 0));
        CHECK_EQ(0, fstat(fd, &file));
        scene->inodes[fd] = file.st_ino;
    }
}

static void check_the_files(const scene_t *scene)
{
    for (int fd = scene->first; fd < END; fd++) {
        struct stat file;
        if (scene->inodes[fd] == 0)
            continue;
        CHECK_EQ(0, fstat(fd, &file));
        CHECK_EQ(scene->inodes[fd], file.st_ino);
        CHECK_EQ(0, file.st_size);
    }
}

static void wake_up(scene_t *scene)
{
    (void)fmux_wakeup(scene->mux);
    (void)array_wait(&scene->array, 0);
    (void)fmux_wakeup(scene->mux);
}

static void use(scene_t *scene)
{
    (void)array_wait(&scene->array, MILLISECOND);
    (void)fmux_add(scene->mux, scene->ends[1], EPOLLOUT);
    (void)fmux_remove(scene->mux, scene->ends[0]);
    (void)array_wait(&scene->array, 0);
}

static void do_close(scene_t *scene)
{
    (void)fmux_close(scene->mux);
}

static void do_nothing(scene_t *scene)
{
    (void)scene;
}

/* Take the numbers, act, free everything. */
typedef struct {
    int mechanism;
    int shared;
    bool fork_between;
    int64_t timeout_ns; /* of a wait before that */
    void (*act)(scene_t *);
    scene_t scene;
} story_t;

static void act_and_free(void *argument)
{
    story_t *story = argument;
    scene_t *scene = &story->scene;
    take_the_numbers(scene);
    story->act(scene);
    array_close(&scene->array);
    fmux_free(scene->mux);
    check_the_files(scene);
}

static void in_an_empty_process(void *argument)
{
    story_t *story = argument;
    story->scene = scene_open(story->mechanism, story->shared, story->timeout_ns);
    if (!story->fork_between) {
        act_and_free(story);
        return;
    }
    in_a_child(act_and_free, story);
    put(story->scene.ends[1]); /* the parent's mux works as before */
    CHECK_EQ(1, array_wait(&story->scene.array, -1));
    array_close(&story->scene.array);
    fmux_free(story->scene.mux);
}

static void files_under_numbers_of_a_mux_stay_as_they_are(int mechanism)
{
    static void (*const acts[])(scene_t *) = {do_nothing, do_close, wake_up, use};
    for (int i = 0; i < 32; i++) {
        story_t story = {.mechanism = mechanism,
                         .shared = i & 1,
                         .fork_between = (i & 2) != 0,
                         .timeout_ns = (i & 4) != 0,
                         .act = acts[i / 8]};
        in_a_child(in_an_empty_process, &story);
    }
}

/* ---- what the calls return -------------------------------------------------------- */

static void lose_the_set(void *argument)
{
    for (int slept = 0; slept < 2; slept++) {
        scene_t scene = scene_open(*(int *)argument, 0, slept);
        take_the_numbers(&scene);
        CHECK_EQ(-EINVAL, array_wait(&scene.array, 0)); /* of the kernel */
        CHECK_EQ(-ESHUTDOWN, fmux_wakeup(scene.mux));
        CHECK_EQ(-ESHUTDOWN, array_wait(&scene.array, 0));
        CHECK_EQ(-ESHUTDOWN, fmux_add(scene.mux, scene.ends[1], EPOLLOUT));
        array_close(&scene.array);
        fmux_free(scene.mux);
    }
}

static void a_mux_that_lost_its_set_is_closed(int mechanism)
{
    in_a_child(lose_the_set, &mechanism);
}

static void use_after_the_loss(void *argument)
{
    scene_t *scene = argument;
    take_the_numbers(scene);
    CHECK_EQ(-ESHUTDOWN, array_wait(&scene->array, 0));
    CHECK_EQ(-ESHUTDOWN, fmux_fileno(scene->mux));
    CHECK_EQ(-ESHUTDOWN, fmux_wakeup(scene->mux));
}

static void lose_in_a_child(void *argument)
{
    for (int i = 0; i < 4; i++) {
        scene_t scene = scene_open(*(int *)argument, i & 1, i / 2);
        in_a_child(use_after_the_loss, &scene);
        array_close(&scene.array);
        fmux_free(scene.mux);
    }
}

static void a_mux_that_lost_its_set_in_a_child_is_closed_there(int mechanism)
{
    in_a_child(lose_in_a_child, &mechanism);
}

static void lose_the_pipe(void *argument)
{
    int mechanism = *(int *)argument;
    for (int end = 0; end < 2; end++) {
        scene_t scene = scene_open(mechanism, 0, 1);
        CHECK_EQ(0, close(scene.first + end));
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(0, fmux_wakeup(scene.mux));
            CHECK_EQ(0, array_wait(&scene.array, -1));
            CHECK_EQ(0, array_wait(&scene.array, MILLISECOND));
        }
        put(scene.ends[1]);
        CHECK_EQ(1, array_wait(&scene.array, -1));
        array_close(&scene.array);
        fmux_free(scene.mux);
        CHECK_EQ(scene.before, open_descriptors());
    }
}

static void a_pipe_that_the_program_has_closed_is_replaced(int mechanism)
{
    in_a_child(lose_the_pipe, &mechanism);
}

static void exit_at_once(void *argument)
{
    (void)argument;
}

static void check_another_mux(int mechanism, int shared)
{
    int before = open_descriptors();
    fmux_t *first = mux_open(mechanism);
    array_t array = array_open(first, 4, PRIVATE);
    CHECK_EQ(0, fmux_set_shared(first, shared));
    in_a_child(exit_at_once, NULL); /* if shared, it has a second set now */
    int number = fmux_fileno(first);
    CHECK_EQ(0, array_wait(&array, 0));
    CHECK_EQ(0, close(number));
    fmux_t *second = mux_open(mechanism);
    CHECK_EQ(number, fmux_fileno(second));

    CHECK_EQ(-ESHUTDOWN, fmux_wakeup(first));
    CHECK_EQ(-ESHUTDOWN, array_wait(&array, 0));
    array_close(&array);
    fmux_free(first);

    array = array_open(second, 4, PRIVATE);
    CHECK_EQ(0, array_wait(&array, 0));
    CHECK_EQ(0, fmux_wakeup(second));
    CHECK_EQ(0, array_wait(&array, -1));
    array_close(&array);
    fmux_free(second);
    CHECK_EQ(before, open_descriptors());
}

static void a_number_that_another_mux_got_is_left_to_it(int mechanism)
{
    check_another_mux(mechanism, 0);
    check_another_mux(mechanism, 1);
}

static void watch_the_socket(void *argument)
{
    scene_t scene = scene_open(*(int *)argument, 0, 1);
    int number = scene.first + 1; /* opened after the set */
    CHECK_EQ(-EBADF, fmux_add(scene.mux, number, EPOLLIN));
    close(number);
    CHECK_EQ(number, dup(scene.ends[1]));
    CHECK_OK(fmux_add(scene.mux, number, EPOLLOUT));
    CHECK_EQ(1, array_wait(&scene.array, -1));
    CHECK_EQ(number, array_fd(&scene.array, 0));
}

static void the_wake_up_socket_cannot_be_watched(int mechanism)
{
    in_a_child(watch_the_socket, &mechanism);
}

static void open_the_first(void *argument)
{
    int mechanism = *(int *)argument;
    for (int fd = FIRST; fd < END; fd++)
        close(fd);
    int before = open_descriptors();
    for (int i = 0; i < 2; i++) {
        fmux_t *mux = mux_open(mechanism);
        fault_arm(FAULT_SOCKET, 1, 1, EMFILE);
        CHECK_EQ(0, fmux_wakeup(mux));
        CHECK_EQ(i == 0, fault_disarm());
        CHECK_EQ(0, fmux_wakeup(mux));
        fmux_free(mux);
    }
    CHECK_EQ(before + 1, open_descriptors()); /* one socket for all */
}

static void the_first_wake_up_opens_a_socket_for_all(int mechanism)
{
    in_a_child(open_the_first, &mechanism);
}

const test_t number_tests[] = {
    TEST(files_under_numbers_of_a_mux_stay_as_they_are, ON_ALL),
    TEST(a_mux_that_lost_its_set_is_closed, ON_EPOLL),
    TEST(a_mux_that_lost_its_set_in_a_child_is_closed_there, ON_EPOLL),
    TEST(a_pipe_that_the_program_has_closed_is_replaced, ON_COPIES),
    TEST(a_number_that_another_mux_got_is_left_to_it, ON_EPOLL),
    TEST(the_wake_up_socket_cannot_be_watched, ON_EPOLL),
    TEST(the_first_wake_up_opens_a_socket_for_all, ON_EPOLL),
    {NULL, NULL, 0},
};
